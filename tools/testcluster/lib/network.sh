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

# What makes NetworkPolicies hold. Without filtered bridges it would see nothing of what pods of one bridge say to each other.
start_policies() {
  running netpol && return 0
  bridge_filter || say "this kernel filters no bridges (br_netfilter): between pods no NetworkPolicy holds"
  start netpol "$BIN/netpol" -kubeconfig "$NODE/netpol.kubeconfig" -node "$NODE_NAME" -services "$SERVICE_RANGE"
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

# Its rules and sets, without which the machine's own are as they were.
policies_down() {
  local rules
  if rules=$(iptables-save -t filter 2>/dev/null) && grep -q KUBE-ROUTER <<<"$rules"; then
    grep -vE 'KUBE-(ROUTER|POD-FW|NWPLCY)' <<<"$rules" | iptables-restore --table filter
    rules=$(iptables-save -t filter)
    # A table in which nobody has anything: most likely there was none before.
    grep -qE '^(-A|:[A-Z]+ DROP|:[^ ]+ - )' <<<"$rules" || nft delete table ip filter 2>/dev/null || true
  fi
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
