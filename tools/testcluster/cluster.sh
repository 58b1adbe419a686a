#!/usr/bin/env bash
# The cluster of this checkout: kind where a Docker daemon answers, a node of processes otherwise.
# Usage: cluster.sh up | down | status | load IMAGE...
#   load   gives the cluster images of the Docker daemon; BuildKit puts them into the other kind of node by itself
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
. "$here/cache.sh"
kubeconfig=$checkout/.slipway-cluster/kubeconfig
# Two checkouts have a cluster each: the name says whose it is.
name=slipway-$(cksum <<<"$checkout" | cut -c1-6)

kind() { "$BIN/kind" "$1" cluster --name "$name" "${@:2}"; }
images=(slipway-train:dev slipway-serve:dev slipway-operator:dev)
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
  # kind brings no kubectl; its node has one.
  command -v kubectl >/dev/null || [ -x "$BIN/kubectl" ] || docker cp --quiet "$name-control-plane:/usr/bin/kubectl" "$BIN/kubectl"
  local image
  for image in "${images[@]}"; do ! docker image inspect "$image" >/dev/null 2>&1 || load_in_docker "$image"; done
  exports "$kubeconfig"
}

load_in_docker() { # IMAGE...
  [ -x "$BIN/kind" ] && exists || return 0
  "$BIN/kind" load docker-image "$@" --name "$name"
}

status_in_docker() {
  [ -x "$BIN/kind" ] && exists || { say "no cluster is up; 'make cluster-up' starts one"; return 0; }
  say "kind's cluster $name"
  docker ps --filter "label=io.x-k8s.kind.cluster=$name" --format '{{.Names}} {{.Image}} {{.Status}}'
  docker exec "$name-control-plane" kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes
  docker exec "$name-control-plane" du -sh /var/lib/containerd
  docker exec "$name-control-plane" kubectl --kubeconfig /etc/kubernetes/admin.conf wait --for condition=Ready nodes --all --timeout 1s >/dev/null ||
    die "$name is not Ready"
  say "$name is Ready"
}

down_in_docker() {
  [ ! -x "$BIN/kind" ] || kind delete --kubeconfig "$kubeconfig"
  rm -f "$kubeconfig"
}

command=${1:-}
case $command in up | down | status | load) shift ;; *) die "cluster.sh knows up, down, status and load, not '$command'" ;; esac
# A docker client is often there without its daemon.
if docker info >/dev/null 2>&1; then
  "${command}_in_docker" "$@"
elif [ "$command" != load ]; then
  exec "$here/node.sh" "$command"
fi
