#!/usr/bin/env bash
# Kueue's manager as a process beside a control plane (or the node): it admits Jobs that have the label
# kueue.x-k8s.io/queue-name. Its CRDs and its webhooks for Jobs and queues are those of its own release.
#
#   kueue.sh up STATE      STATE of control-plane.sh, or of the node
#   kueue.sh down STATE
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/cache.sh"
for part in process ports pki; do . "$here/lib/$part.sh"; done
CONFIG=$BIN/kueue-config/components

kube() { "$BIN/kubectl" --kubeconfig "$STATE/admin.kubeconfig" "$@"; }

configuration() {
  cat <<YAML
apiVersion: config.kueue.x-k8s.io/v1beta2
kind: Configuration
namespace: kueue-system
health: {healthProbeBindAddress: "127.0.0.1:$2"}
metrics: {bindAddress: "0"}
webhook: {host: 127.0.0.1, port: $1, certDir: "$STATE/kueue"}
internalCertManagement: {enable: false}
leaderElection: {leaderElect: false}
clientConnection: {qps: 200, burst: 400}
# A server of its own, which an APIService would make part of the API.
featureGates: {VisibilityOnDemand: false}
integrations: {frameworks: [batch/job]}
YAML
}

# webhooks PORT: the release's, with the manager's address in place of a Service; those of Kueue's kinds and of Jobs.
webhooks() {
  local authority
  authority=$(base64 -w0 <"$STATE/pki/ca.crt")
  awk -v url="https://127.0.0.1:$1" -v authority="$authority" '
    function flush() { if (entry != "" && entry ~ /url: [^\n]*(kueue-x-k8s-io|batch-v1-job)/) printf "%s", entry; entry = "" }
    /^- admissionReviewVersions:/ { flush(); entry = $0 "\n"; next }
    /^[^ -]|^---/ { flush(); print; next }
    /^    service:$|^      name: webhook-service$|^      namespace: system$/ { next }
    /^      path: / { $0 = "    url: " url $2 "\n    caBundle: " authority }
    entry != "" { entry = entry $0 "\n"; next }
    { print }
    END { flush() }
  ' "$CONFIG/webhook/manifests.yaml"
}

healthy() { python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)' "http://127.0.0.1:$1/readyz"; }

# One that the API server has only just taken has no conditions yet, and `wait` ends with an error upon that.
established() {
  local try
  for try in 1 2 3 4 5; do
    kube wait --for=condition=Established customresourcedefinitions --all --timeout=60s >/dev/null && return
    say "CustomResourceDefinitions are not established yet ($try)"
    sleep 1
  done
  return 1
}

up() {
  local webhook health
  [ -f "$STATE/admin.kubeconfig" ] || die "no control plane was started in $STATE: run control-plane.sh up $STATE"
  "$here/build.sh" kueue
  mkdir -p "$STATE/kueue"
  [ -f "$STATE/kueue/ports" ] || free_ports 2 >"$STATE/kueue/ports"
  read -r webhook health <"$STATE/kueue/ports"
  certificate kueue-webhook /CN=kueue-webhook IP:127.0.0.1
  cp "$STATE/pki/kueue-webhook.crt" "$STATE/kueue/tls.crt"
  cp "$STATE/pki/kueue-webhook.key" "$STATE/kueue/tls.key"
  configuration "$webhook" "$health" >"$STATE/kueue/configuration.yaml"

  kube apply --server-side -f "$CONFIG/crd/bases" >/dev/null
  kube create namespace kueue-system --dry-run=client -o yaml | kube apply --server-side -f - >/dev/null
  established
  trap '[ $? = 0 ] || stop_what_started' EXIT
  start kueue env KUEUE_METRICS_CERTS="$STATE/kueue" "$BIN/kueue" --config="$STATE/kueue/configuration.yaml" --kubeconfig="$STATE/kueue.kubeconfig"
  await kueue 60 healthy "$health"
  webhooks "$webhook" | kube apply --server-side -f - >/dev/null
  say "Kueue is ready after $SECONDS s"
}

down() {
  kube delete --ignore-not-found mutatingwebhookconfiguration/mutating-webhook-configuration \
    validatingwebhookconfiguration/validating-webhook-configuration >/dev/null 2>&1 || true
  stop kueue
}

command=${1:-help}
case $command in
  up | down) [ -n "${2:-}" ] || die "kueue.sh $command wants the folder of the control plane"; STATE=$(realpath -m "$2"); "$command" ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; [ "$command" = help ] || die "kueue.sh does not know '$command'" ;;
esac
