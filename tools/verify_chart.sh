#!/usr/bin/env bash
# Check the chart: helm lint and helm template with each of charts/slipway/ci/*.yaml. Nothing of a cluster is needed;
# tests/integration/chart shows the same manifests to a real API server.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/testcluster/cache.sh

tools/testcluster/build.sh helm || { echo "make verify: the chart cannot be checked without Helm (see above)" >&2; exit 1; }
quietly() { # COMMAND...: shows what it said only when it fails
  local said
  said=$("$@" 2>&1) || { printf '%s\n' "$said" >&2; return 1; }
}
failed=0
for values in charts/slipway/ci/*.yaml; do
  quietly "$BIN/helm" lint charts/slipway --strict --values "$values" &&
    quietly "$BIN/helm" template slipway charts/slipway --namespace slipway-system --values "$values" ||
    { echo "charts/slipway with $values is refused (see above)" >&2; failed=1; }
done
exit $failed
