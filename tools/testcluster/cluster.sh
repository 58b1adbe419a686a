#!/usr/bin/env bash
# The cluster of this checkout: kind where a Docker daemon answers, a node of processes otherwise.
# Usage: cluster.sh up | down | status
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
. "$here/cache.sh"
kubeconfig=$checkout/.slipway-cluster/kubeconfig
# Two checkouts have a cluster each: the name says whose it is.
name=slipway-$(cksum <<<"$checkout" | cut -c1-6)

kind() { "$BIN/kind" "$1" cluster --name "$name" "${@:2}"; }
exists() { "$BIN/kind" get clusters 2>/dev/null | grep -qxF "$name"; }

up_in_docker() {
  "$here/build.sh" kind
  mkdir -p "${kubeconfig%/*}"
  if exists; then
    "$BIN/kind" export kubeconfig --name "$name" --kubeconfig "$kubeconfig"
  else
    # kind takes paths of its configuration from where it is called.
    (cd "$checkout" && kind create --config kind-config.yaml --kubeconfig "$kubeconfig" --wait 120s)
  fi
  exports "$kubeconfig"
}

status_in_docker() {
  [ -x "$BIN/kind" ] && exists || { say "no cluster is up; 'make cluster-up' starts one"; return 0; }
  say "kind's cluster $name"
  docker ps --filter "label=io.x-k8s.kind.cluster=$name" --format '{{.Names}} {{.Image}} {{.Status}}'
  docker exec "$name-control-plane" kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes
  docker exec "$name-control-plane" du -sh /var/lib/containerd
}

down_in_docker() {
  [ ! -x "$BIN/kind" ] || kind delete --kubeconfig "$kubeconfig"
  rm -f "$kubeconfig"
}

command=${1:-}
case $command in up | down | status) ;; *) die "cluster.sh knows up, down and status, not '$command'" ;; esac
# A docker client is often there without its daemon.
if docker info >/dev/null 2>&1; then
  "${command}_in_docker"
else
  exec "$here/node.sh" "$command"
fi
