#!/usr/bin/env bash
# The tests that need a real node: a cluster, the images, the chart, the tests, and the cluster down again.
# A cluster that was up before stays up; KEEP=1 leaves up what this started. PYTEST_ARGS picks tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "$(id -u)" != 0 ] && ! docker info >/dev/null 2>&1; then
  echo "make e2e: needs root on Linux, or a Docker daemon: run 'sudo make e2e'" >&2
  exit 1
fi
begin=$SECONDS
told() { echo "== $1 ($((SECONDS - begin)) s)"; }

was_up=
tools/testcluster/cluster.sh status 2>/dev/null | grep -q 'is Ready' && was_up=yes
down() {
  [ -n "$was_up" ] || [ -n "${KEEP:-}" ] || tools/testcluster/cluster.sh down
}
trap down EXIT

told "cluster"
tools/testcluster/cluster.sh up
export KUBECONFIG=$PWD/.slipway-cluster/kubeconfig
told "images"
tools/images.sh
told "deploy"
tools/deploy.sh up
told "tests"
. tools/testcluster/cache.sh
export SLIPWAY_AUDIT_LOG=${SLIPWAY_AUDIT_LOG:-$NODE/log/audit.jsonl}
# shellcheck disable=SC2086 (several words are meant)
.venv/bin/python -m pytest tests/e2e/cluster -m cluster -s ${PYTEST_ARGS:-}
told "done"
