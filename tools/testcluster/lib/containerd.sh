# containerd of the node, with an image store that outlives the node. Sourced, not run.
SOCKET=$NODE/containerd.sock
PAUSE_IMAGE=slipway.dev/pause:$PAUSE_VERSION

on_node() { ctr --address "$SOCKET" --namespace k8s.io "$@"; }

start_containerd() {
  mkdir -p "$NODE/images" "$NODE/containerd"
  cat >"$NODE/containerd.toml" <<TOML
version = 2
root = "$NODE/images"
state = "$NODE/containerd"
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.internal.v1.opt"]
  path = "$NODE/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  # Without CAP_SYS_RESOURCE runc otherwise ends with "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$NODE/cni"
TOML
  start containerd containerd --config "$NODE/containerd.toml"
  await containerd 30 on_node version
}

pause_image() {
  on_node images ls -q | grep -qxF "$PAUSE_IMAGE" || on_node images import "$BIN/pause.tar" >/dev/null
}

# remove_containers: what kubelet has left, with its snapshots; then the shims, which outlive containerd.
remove_containers() {
  local tasks containers pid
  if running containerd; then
    tasks=$(on_node tasks ls -q 2>/dev/null || true)
    [ -z "$tasks" ] || xargs -n 1 -P 4 ctr --address "$SOCKET" --namespace k8s.io tasks rm --force >/dev/null 2>&1 <<<"$tasks" || true
    containers=$(on_node containers ls -q 2>/dev/null || true)
    # shellcheck disable=SC2086  # one word an id
    [ -z "$containers" ] || on_node containers rm $containers >/dev/null 2>&1 || true
    stop containerd
  fi
  for pid in $(pgrep -f "^[^ ]*containerd-shim-runc-v2 .*-address $SOCKET( |\$)"); do kill -KILL "$pid" 2>/dev/null || true; done
}
