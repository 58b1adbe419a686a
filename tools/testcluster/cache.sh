# Where the test cluster keeps what it built, and how it speaks. Sourced, not run.
CACHE=${SLIPWAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/slipway}/testcluster
BIN=$CACHE/bin
# The node's state: one a machine, whichever checkout starts it, because its image store is large.
NODE=$CACHE/node
say() { printf 'testcluster: %s\n' "$*"; }
die() { printf 'testcluster: %s\n' "$*" >&2; exit 1; }
# exports KUBECONFIG: what to type to reach the cluster; PATH too where the machine has no kubectl or helm.
exports() {
  echo "export KUBECONFIG=$1"
  local folder=$BIN
  [ -z "${SUDO_UID:-}" ] || folder=${1%/*}
  { command -v kubectl && command -v helm; } >/dev/null || [ ! -x "$folder/kubectl" ] || echo "export PATH=\$PATH:$folder"
}
mkdir -p "$CACHE"
