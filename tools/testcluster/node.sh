#!/usr/bin/env bash
# A real node without Docker: containerd, kubelet, kube-proxy, CoreDNS, policies and storage beside the control plane, as processes
# of this machine. Linux and root. One a machine: its bridge, its addresses and kubelet's ports are the machine's.
#
#   node.sh up               writes .slipway-cluster/kubeconfig in this checkout; POLICIES=off: no NetworkPolicy is enforced
#   node.sh status
#   node.sh restart NAME     containerd, kubelet, apiserver, ...: pods go on
#   node.sh down [--images]  all of it; images stay in the store unless told otherwise
#
# Its state is ~/.cache/slipway/testcluster/node: log/NAME.log, log/audit.jsonl, operator.kubeconfig, containerd.sock.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
. "$here/versions.sh"
. "$here/cache.sh"
STATE=$NODE
for part in process ports pki control_plane packages containerd network kubelet dns; do . "$here/lib/$part.sh"; done
# Behind a proxy, what is on this machine stays on it: Go exempts the loopback address alone.
NOT_BY_PROXY=$POD_RANGE,$SERVICE_RANGE,.svc,.cluster.local,localhost,127.0.0.1
export NO_PROXY=${NO_PROXY:+$NO_PROXY,}$NOT_BY_PROXY no_proxy=${no_proxy:+$no_proxy,}$NOT_BY_PROXY
kubeconfig_file=$checkout/.slipway-cluster/kubeconfig

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

# A node of a checkout that is gone belongs to whoever comes.
own_it() {
  local other
  other=$(owner) || return 0
  [ "$other" = "$checkout" ] || [ ! -d "$other" ] ||
    die "this machine's one node belongs to the checkout $other (bridge $BRIDGE): use it with KUBECONFIG=$other/.slipway-cluster/kubeconfig, or run 'make cluster-down' there"
}

need_root() { [ "$(id -u)" = 0 ] || die "a node without Docker wants root on Linux: run 'sudo make cluster-$1', or start a Docker daemon"; }

# With sudo, the cluster is for who called it: they reach neither root's files nor root's cache.
hand_over() {
  [ -n "${SUDO_UID:-}" ] || return 0
  local folder=${kubeconfig_file%/*}
  install -m 755 "$BIN/kubectl" "$folder/kubectl"
  chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$folder"
}

node_identities() {
  identities "https://$NODE_ADDRESS:6443"
  certificate kubelet "/O=system:nodes/CN=system:node:$NODE_NAME" "DNS:$NODE_NAME,IP:$NODE_ADDRESS"
  certificate proxy /CN=system:kube-proxy
  certificate coredns /O=system:masters/CN=coredns
  certificate netpol /O=system:masters/CN=netpol
  certificate storage /O=system:masters/CN=storage
  local name
  for name in kubelet proxy coredns netpol storage; do kubeconfig "$name" "https://$NODE_ADDRESS:6443"; done
}

# One command at a time. What it starts does not hold the lock: see start.
alone() {
  exec 9>"$CACHE/.lock-node"
  flock -n 9 || die "another make cluster-up or cluster-down is at work on this machine; try again when it has ended"
}

up() {
  local etcd peer name
  need_root up
  case ${POLICIES:-on} in on | off) ;; *) die "POLICIES=$POLICIES is neither on nor off" ;; esac
  alone
  own_it
  need_packages "${DEBIAN_PACKAGES[@]}"
  "$here/build.sh" kubernetes node etcd coredns netpol pause
  local begin=$SECONDS
  [ -f "$NODE/ports" ] || fresh 2
  read -r etcd peer <"$NODE/ports"

  network_up "$checkout"
  start_etcd "$etcd" "$peer"
  node_identities
  start_apiserver "$NODE_ADDRESS" 6443 "$etcd" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --advertise-address="$NODE_ADDRESS" --kubelet-preferred-address-types=InternalIP \
    --kubelet-client-certificate="$NODE/pki/admin.crt" --kubelet-client-key="$NODE/pki/admin.key"
  start_containerd
  pause_image
  await apiserver 60 api_ready
  start_controllers 200
  start_kubelet
  start_proxy
  start_dns
  start storage bash "$here/storage.sh" "$BIN/kubectl" "$NODE/storage.kubeconfig" "$NODE/volumes"
  await kubelet 60 node_ready
  await controller-manager 30 default_account_ready
  for name in proxy coredns storage scheduler; do running "$name" || give_up "$name" "ended at its start"; done

  # It looks for its node.
  policies_up

  mkdir -p "$(dirname "$kubeconfig_file")"
  install -m 600 "$NODE/admin.kubeconfig" "$kubeconfig_file"
  hand_over
  say "the node is ready after $((SECONDS - begin)) s"
  exports "$kubeconfig_file"
  [ -z "${HTTPS_PROXY:-${https_proxy:-}}" ] || echo "export NO_PROXY=$NO_PROXY no_proxy=$no_proxy"
}

status() {
  local name other why
  other=$(owner) || { say "no node is up on this machine; 'make cluster-up' starts one"; return 0; }
  say "the node of $other, Kubernetes $KUBERNETES_VERSION, etcd $ETCD_VERSION, CoreDNS $COREDNS_VERSION, $(containerd --version | awk '{ print "containerd " $3 }')"
  for name in $(names); do
    if running "$name"; then say "$name runs (pid $(pid_of "$name"))"; else say "$name has ended: $NODE/log/$name.log"; fi
  done
  say "images take $(du -sh "$NODE/images" | cut -f1), claims $(du -sh "$NODE/volumes" 2>/dev/null | cut -f1); $(df -h --output=avail "$NODE" | tail -1 | xargs) are free"
  node_ready || die "$NODE_NAME is not Ready: kubectl --kubeconfig $NODE/admin.kubeconfig describe node $NODE_NAME"
  why=$(unenforced)
  [ -z "$why" ] || say "NetworkPolicies are not enforced here: $why"
  say "$NODE_NAME is Ready"
}

again() {
  restart "${1:-}"
  await "$1" 60 api_ready
  await "$1" 60 on_node version
}

down() {
  need_root down
  alone
  own_it
  # shellcheck disable=SC2046  # names have no spaces
  stop $(names | grep -vxE 'containerd|apiserver|etcd') || true
  remove_containers
  stop apiserver etcd
  awk -v below="$NODE/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount -l
  network_down
  remove_kubelet_traces
  rm -f "$kubeconfig_file" "${kubeconfig_file%/*}/kubectl"
  [ -d "$NODE" ] || return 0
  find "$NODE" -mindepth 1 -maxdepth 1 ! -name log ! -name images -exec rm -rf {} +
  [ "${1:-}" != --images ] || rm -rf "$NODE/images"
}

command=${1:-help}
[ $# = 0 ] || shift
case $command in
  up | down | status) "$command" "$@" ;;
  restart) again "$@" ;;
  help | -h | --help) usage ;;
  *) usage >&2; die "node.sh does not know '$command'" ;;
esac
