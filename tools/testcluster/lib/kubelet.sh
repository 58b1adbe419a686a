# kubelet and kube-proxy of the node. Sourced, not run.
NODE_NAME=slipway-node
# Its pods' cgroups are below this one, so that `down` knows which to remove. v1 has one such folder a controller.
CGROUP=slipway-node

cgroup_folders() {
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then echo "/sys/fs/cgroup/$CGROUP"; return; fi
  local folder
  for folder in /sys/fs/cgroup/*/; do [ -L "${folder%/}" ] || echo "$folder$CGROUP"; done
}

start_kubelet() {
  local folder
  for folder in $(cgroup_folders); do
    mkdir -p "$folder"
    # A new cpuset of v1 has no CPUs, and takes no process, until somebody says which.
    [ ! -f "$folder/cpuset.cpus" ] || { cat "$folder/../cpuset.cpus" >"$folder/cpuset.cpus"; cat "$folder/../cpuset.mems" >"$folder/cpuset.mems"; }
  done
  cat >"$NODE/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_ADDRESS
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: "$NODE/pki/ca.crt"}, webhook: {enabled: true}}
authorization: {mode: Webhook}
tlsCertFile: "$NODE/pki/kubelet.crt"
tlsPrivateKeyFile: "$NODE/pki/kubelet.key"
containerRuntimeEndpoint: "unix://$SOCKET"
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
failSwapOn: false
clusterDNS: [$NODE_ADDRESS]
clusterDomain: cluster.local
podLogsDir: "$NODE/pod-logs"
makeIPTablesUtilChains: false
# Nothing could bring an image back: there is no registry. It is never thrown away for want of disk.
imageGCHighThresholdPercent: 100
evictionHard: {imagefs.available: 1%, nodefs.available: 1%, memory.available: 100Mi}
YAML
  start kubelet "$BIN/kubelet" --config="$NODE/kubelet.yaml" --kubeconfig="$NODE/kubelet.kubeconfig" \
    --root-dir="$NODE/kubelet" --cert-dir="$NODE/kubelet/pki" --hostname-override="$NODE_NAME" --node-ip="$NODE_ADDRESS"
}

node_ready() {
  "$BIN/kubectl" --kubeconfig "$NODE/admin.kubeconfig" get node "$NODE_NAME" \
    -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' | grep -qx True
}

start_proxy() {
  local mask=true
  # It ends when somebody touches its configuration.
  running proxy && return 0
  bridge_filter && mask=false
  cat >"$NODE/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: "$NODE/proxy.kubeconfig"}
mode: nftables
nftables: {masqueradeAll: $mask}
clusterCIDR: $POD_RANGE
hostnameOverride: $NODE_NAME
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: [$POD_RANGE]
# The machine's own connection tracking stays as it is.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
  start proxy "$BIN/kube-proxy" --config="$NODE/proxy.yaml"
}

# remove_kubelet_traces: the paths that no setting of kubelet moves, and its cgroups.
remove_kubelet_traces() {
  local folder
  find /var/log/containers -lname "$NODE/*" -delete 2>/dev/null || true
  [ ! -f "$NODE/process/kubelet.command" ] || rm -f /var/lib/kubelet/device-plugins/kubelet.sock
  rmdir /var/log/containers /var/lib/kubelet/device-plugins /var/lib/kubelet 2>/dev/null || true
  for folder in $(cgroup_folders); do
    [ ! -d "$folder" ] || find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}
