# The bridge of the node's pods, and what masks their addresses on the way out. Sourced, not run.
BRIDGE=slipway0
NODE_ADDRESS=10.244.0.1
POD_RANGE=10.244.0.0/24

# The bridge carries the checkout that the node belongs to, so that no file can outlive it.
owner() { cat "/sys/class/net/$BRIDGE/ifalias" 2>/dev/null; }

network_up() {
  mkdir -p "$NODE/cni"
  # No ipMasq and no portmap: both would leave chains in iptables behind for every pod that ends with the node.
  cat >"$NODE/cni/10-slipway.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "slipway", "plugins": [
  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$NODE/addresses", "ranges": [[{"subnet": "$POD_RANGE"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
  if [ ! -e "/sys/class/net/$BRIDGE" ]; then
    # A bridge without a MAC of its own takes its ports', and pods lose the node for a while when that one goes.
    ip link add "$BRIDGE" address 02:53:4c:57:00:01 type bridge
    ip link set "$BRIDGE" alias "$1"
    ip address add "$NODE_ADDRESS/24" dev "$BRIDGE"
    ip link set "$BRIDGE" up
  fi
  nft -f - <<NFT
table ip slipway
delete table ip slipway
table ip slipway {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr $POD_RANGE ip daddr != $POD_RANGE masquerade
  }
}
NFT
  switch_on net/ipv4/ip_forward
}

# switch_on SETTING: of the kernel; network_down gives it back what it had.
switch_on() {
  local kept=$NODE/kernel/$1
  [ -f "/proc/sys/$1" ] || return 1
  [ -f "$kept" ] || { mkdir -p "${kept%/*}" && cat "/proc/sys/$1" >"$kept"; }
  echo 1 >"/proc/sys/$1"
}

# Pods of one bridge answer each other directly: the answer of a Service only comes back from its own address when the
# kernel filters bridges as well. Where it cannot, kube-proxy masks the asker.
bridge_filter() { switch_on net/bridge/bridge-nf-call-iptables; }

# What netpol calls its chains, so that they are told from everybody else's.
POLICY_CHAINS='KUBE-(ROUTER|POD-FW|NWPLCY)-[^ ]*'

# firewall_of_others: what the machine's owner has in the table `filter`, if anything. At each of its syncs netpol writes that
# table anew from what iptables-save told it: what that does not tell is lost, and so is what somebody adds meanwhile.
firewall_of_others() {
  local saved native name
  # netpol cannot read it either then, ends, and says why.
  saved=$(iptables-save -t filter 2>&1) || return 1
  if grep -q incompatible <<<"$saved"; then
    echo "the table ip filter has chains that iptables cannot keep: nft list table ip filter"
    return 0
  fi
  if with_nft && native=$(nft list table ip filter 2>/dev/null); then
    name=$(grep -P '^\t[a-z]' <<<"$native" | grep -vP '^\tchain ' | head -1 | sed 's/^\t//; s/ *{$//') || true
    [ -n "$name" ] || name=$(comm -23 <(sed -nE 's/^\tchain ([^ ]+).*/\1/p' <<<"$native" | sort) \
      <(sed -nE 's/^:([^ ]+) .*/\1/p' <<<"$saved" | sort) | sed 's/^/chain /' | head -1)
    if [ -n "$name" ]; then
      echo "the table ip filter has '$name', which iptables does not know: nft list table ip filter"
      return 0
    fi
  fi
  # Other parts of Kubernetes write theirs anew when they miss them.
  name=$(grep -E '^(-A|:[^ ]+ DROP|:[^ ]+ - )' <<<"$saved" | grep -vE '^(:|-A )KUBE-|^-A [^ ]+ .*-[jg] KUBE-[^ ]+$' | head -1) || true
  [ -n "$name" ] || return 1
  echo "the machine has a firewall of its own, '$name': iptables-save -t filter"
}

# with_nft: whether iptables keeps its rules in tables of nft, which has those of nobody else then.
with_nft() { iptables -V 2>/dev/null | grep -q nf_tables; }

# filter_has PATTERN: in a line of iptables-save. Of a pipe, one that is closed early would be a failure too.
filter_has() {
  local saved
  saved=$(iptables-save -t filter 2>/dev/null) && grep -qE -- "$1" <<<"$saved"
}

# What makes NetworkPolicies hold. Without filtered bridges it would see nothing of what pods of one bridge say to each other.
start_policies() {
  running netpol && return 0
  bridge_filter || say "this kernel filters no bridges (br_netfilter): between pods no NetworkPolicy holds"
  remember_table
  start netpol "$BIN/netpol" -kubeconfig "$NODE/netpol.kubeconfig" -node "$NODE_NAME" -services "$SERVICE_RANGE"
}

# remember_table: whether there was a table `filter` before iptables made one. A table that has ours from before tells nothing.
remember_table() {
  if with_nft && ! nft list table ip filter >/dev/null 2>&1; then
    touch "$NODE/no-filter-before"
  elif ! filter_has "^:$POLICY_CHAINS "; then
    rm -f "$NODE/no-filter-before"
  fi
}

# policies_hold: whether they do, once it has begun.
policies_hold() {
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    running netpol || return 1
    iptables -w -n --list KUBE-ROUTER-FORWARD >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  return 1
}

# policies_up: unless the machine has a firewall of its own, or POLICIES=off. The node says why, for whoever counts on them.
policies_up() {
  local why=
  if [ "${POLICIES:-on}" = off ]; then
    why="POLICIES=off"
    stop netpol
  elif ! running netpol; then
    why=$(firewall_of_others) || why=
  fi
  if [ -n "$why" ]; then
    policies_down
    say "NetworkPolicies are not enforced here: $why"
    annotate_node "$UNENFORCED=$why"
    return
  fi
  annotate_node "$UNENFORCED-"
  # Where the kernel lacks what it needs, all else can be tried.
  start_policies
  policies_hold || say "NetworkPolicies do not hold here: $NODE/log/netpol.log says why"
}
UNENFORCED=slipway.dev/network-policies-unenforced
unenforced() {
  "$BIN/kubectl" --kubeconfig "$NODE/admin.kubeconfig" get node "$NODE_NAME" -o jsonpath="{.metadata.annotations.${UNENFORCED/./\\.}}"
}
annotate_node() { "$BIN/kubectl" --kubeconfig "$NODE/admin.kubeconfig" annotate node "$NODE_NAME" --overwrite "$1" >/dev/null; }

# policies_down: takes netpol's rules and sets away, and nothing else. What fails is said: there is more to clean up.
policies_down() {
  local saved undo
  saved=$(iptables-save -t filter 2>/dev/null) || saved=
  undo=$(
    sed -nE "/^-A $POLICY_CHAINS /d; s/^-A (.*-[jg] $POLICY_CHAINS)$/-D \1/p" <<<"$saved"
    sed -nE "s/^:($POLICY_CHAINS) .*/-F \1/p" <<<"$saved"
    sed -nE "s/^:($POLICY_CHAINS) .*/-X \1/p" <<<"$saved"
  )
  if [ -n "$undo" ]; then
    printf '*filter\n%s\nCOMMIT\n' "$undo" | iptables-restore -w --noflush ||
      say "the chains KUBE-ROUTER-... of the table filter could not be taken away: iptables-save -t filter shows them"
  fi
  if [ -f "$NODE/no-filter-before" ] && with_nft && nft list table ip filter >/dev/null 2>&1 &&
    ! filter_has '^(-A|:[^ ]+ - )' && ! firewall_of_others >/dev/null; then
    nft delete table ip filter || say "the table ip filter, which was not there before, could not be taken away"
  fi
  rm -f "$NODE/no-filter-before"
  ipset list -name 2>/dev/null | grep -E '^KUBE-(SRC|DST)-|^kube-router-' | xargs -r -n1 ipset destroy || true
}

network_down() {
  local file space container table setting
  # libcni's own record of what it attached: which network namespaces are ours, beside those of other engines.
  for file in /var/lib/cni/results/slipway-*; do
    [ -e "$file" ] || continue
    space=$(grep -oE '/var/run/netns/cni-[0-9a-f-]+' "$file" | head -1) || true
    [ -z "$space" ] || ip netns delete "${space##*/}" 2>/dev/null || true
    container=${file##*/slipway-}
    rm -f "$file" "/var/lib/cni/results/cni-loopback-${container%-*}-lo"
  done
  rmdir /var/lib/cni/results /var/lib/cni 2>/dev/null || true
  ip link delete "$BRIDGE" 2>/dev/null || true
  policies_down
  for table in 'ip slipway' 'ip kube-proxy' 'ip6 kube-proxy'; do
    # shellcheck disable=SC2086  # family and name
    nft delete table $table 2>/dev/null || true
  done
  for setting in $(cd "$NODE/kernel" 2>/dev/null && find . -type f); do
    cat "$NODE/kernel/$setting" >"/proc/sys/$setting" 2>/dev/null || true
  done
}
