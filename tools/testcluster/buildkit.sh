#!/usr/bin/env bash
# BuildKit over the node's containerd: what it builds is in the kubelet's image store at once. Linux and root; the node
# itself need not be up.
#
#   buildkit.sh [up]    prints the address for `buildctl --addr` and nothing else
#   buildkit.sh down    stops it, and containerd too when no node uses it; what was built stays
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/versions.sh"
. "$here/cache.sh"
STATE=$NODE
for part in process packages containerd; do . "$here/lib/$part.sh"; done
ADDRESS=unix://$NODE/buildkit.sock

up() {
  [ "$(id -u)" = 0 ] || die "BuildKit without Docker wants root on Linux"
  need_packages containerd runc procps
  "$here/build.sh" buildkit
  start_containerd
  # What it keeps is beside the images: both live longer than the node.
  start buildkit "$BIN/buildkitd" --root "$NODE/images/buildkit" --addr "$ADDRESS" --oci-worker=false \
    --containerd-worker=true --containerd-worker-addr "$SOCKET" --containerd-worker-namespace k8s.io \
    --containerd-worker-net host --allow-insecure-entitlement network.host
  await buildkit 30 "$BIN/buildctl" --addr "$ADDRESS" debug workers
}

down() {
  stop buildkit
  running kubelet || stop containerd
}

case ${1:-up} in
  up) up >&2; echo "$ADDRESS" ;;
  down) down ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; die "buildkit.sh does not know '$1'" ;;
esac
