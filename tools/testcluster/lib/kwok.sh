# Nodes and pods that exist in the API server alone. Sourced, not run.

# start_kwok CONFIG: Stages of the file; kwok's own, where everything succeeds at once, for an empty CONFIG.
start_kwok() {
  local config=()
  # Without a Lease the nodes of kwok 0.7 are heard of once, count as lost after 50 s, and take all their pods with them.
  [ -n "$1" ] && config=(--config="$1")
  start kwok "$BIN/kwok" --kubeconfig="$STATE/kwok.kubeconfig" --manage-all-nodes=true --node-ip=127.0.0.1 \
    --node-lease-duration-seconds=40 --cidr=10.64.0.1/10 "${config[@]}"
}

# It has read its configuration by then; a file that it cannot read has ended it.
kwok_watches() { grep -q '"Watch all nodes"' "$STATE/log/kwok.log"; }

# kwok_nodes COUNT: kwok-0, kwok-1, ...: each large enough for whatever a test puts there.
kwok_nodes() {
  local index
  for ((index = 0; index < $1; index++)); do
    cat <<YAML
---
apiVersion: v1
kind: Node
metadata:
  name: kwok-$index
  labels: {kubernetes.io/hostname: kwok-$index, kubernetes.io/os: linux, kubernetes.io/arch: amd64, type: kwok}
  annotations: {kwok.x-k8s.io/node: fake}
status:
  allocatable: &size {cpu: "10000", memory: 100Ti, ephemeral-storage: 100Ti, pods: "100000"}
  capacity: *size
YAML
  done
}
