#!/usr/bin/env bash
# Install or upgrade Slipway in a cluster with the images that `make images` built, and wait until it is ready.
# Usage: deploy.sh up | down
#   KUBECONFIG=FILE   the cluster; else the test cluster of this checkout (make cluster-up). One that a shell exports is
#                     not enough (KUBECONFIG_FROM=environment): it is there for every command, and may be production
#   TAG=dev           tag of the images
#   VARIANT=cpu|cuda  what the images were built for
#   VALUES=FILE       more values for the chart
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/testcluster/cache.sh

NAMESPACE=slipway-system
OWN=.slipway-cluster/kubeconfig
TAG=${TAG:-dev}

target=deploy
[ "${1:-}" != down ] || target=undeploy

fail() {
  echo "make $target: $*" >&2
  exit 1
}

# Never a cluster that nobody named: kubectl's default may be somebody's production.
if [ -z "${KUBECONFIG:-}" ]; then
  [ -f $OWN ] || fail "there is no cluster: run make cluster-up, or name one with KUBECONFIG=FILE"
  export KUBECONFIG=$PWD/$OWN
fi
[ -f "$KUBECONFIG" ] || fail "KUBECONFIG=$KUBECONFIG is not there; is its cluster up? make cluster-up starts the one of this checkout"
if [ "${KUBECONFIG_FROM:-}" = environment ] && ! cmp -s "$KUBECONFIG" $OWN; then
  fail "KUBECONFIG=$KUBECONFIG is exported and not this checkout's test cluster. To mean it, name it: make $target KUBECONFIG=$KUBECONFIG. Else unset it"
fi
own_values=()
# The node's own copy of the file, or a relative path to it, is the same cluster.
! cmp -s "$KUBECONFIG" $OWN || own_values=(--values tools/testcluster/values.yaml)
kubectl=$BIN/kubectl
[ -x "$kubectl" ] || kubectl=$(command -v kubectl) || fail "needs kubectl on PATH"
"$kubectl" version >/dev/null 2>&1 || fail "the API server of $KUBECONFIG does not answer; is the cluster up? make cluster-status"
# The machine's own Helm 4 serves as well as one that would have to be built.
helm=$BIN/helm
if [ -n "$(tools/testcluster/build.sh --missing helm)" ]; then
  if [[ $(helm version --template '{{.Version}}' 2>/dev/null) == v4.* ]]; then helm=$(command -v helm); else tools/testcluster/build.sh helm; fi
fi

# As a file, for --set would win over VALUES.
chosen=$(mktemp)
trap 'rm -f "$chosen"' EXIT
echo "images: {operator: {tag: \"$TAG\"}, train: {tag: \"$TAG\"}, serve: {tag: \"$TAG\"}}" >"$chosen"
values=("${own_values[@]}" --values "$chosen")
case ${VARIANT:-cpu} in
  cpu) ;;
  cuda)
    echo "defaults: {training: {accelerator: nvidia.com/gpu}, serving: {accelerator: nvidia.com/gpu, device: cuda}}" >>"$chosen" ;;
  *) fail "VARIANT=$VARIANT is not a set; use VARIANT=cpu or VARIANT=cuda" ;;
esac
# kind's storage knows ReadWriteOnce alone; its one node is where all pods are, so they share it.
[[ $("$kubectl" config current-context) != kind-* ]] || values+=(--set 'defaults.workspace.accessModes={ReadWriteOnce}')
[ -z "${VALUES:-}" ] || values+=(--values "$VALUES")

up() {
  echo "make $target: into $("$kubectl" config current-context) of $KUBECONFIG"
  "$kubectl" create namespace $NAMESPACE --dry-run=client --output yaml | "$kubectl" apply --server-side --filename - >/dev/null
  "$kubectl" label namespace $NAMESPACE --overwrite pod-security.kubernetes.io/enforce=restricted >/dev/null
  # An image built anew has the same tag: only pods that are made anew run it.
  if ! "$helm" upgrade --install slipway charts/slipway --namespace $NAMESPACE --wait --timeout 3m \
    --set-string "operator.podAnnotations.slipway\.dev/deployed=$(date -u +%Y%m%dT%H%M%SZ)" "${values[@]}"; then
    "$kubectl" --namespace $NAMESPACE get pods >&2
    "$kubectl" --namespace $NAMESPACE get events --field-selector type=Warning --sort-by .lastTimestamp 2>/dev/null | tail -5 >&2
    fail "Slipway did not become ready; kubectl -n $NAMESPACE logs -l app.kubernetes.io/component=operator --prefix --tail=-1 says more"
  fi
  echo
  exports "$KUBECONFIG"
}

down() {
  "$helm" uninstall slipway --namespace $NAMESPACE --ignore-not-found --wait
  echo "The CRDs stay, and with them runs and live endpoints. To remove those as well:"
  echo "  kubectl delete crd trainingruns.slipway.dev modelendpoints.slipway.dev"
}

case ${1:-} in
  up | down) "$1" ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
