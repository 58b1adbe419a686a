#!/usr/bin/env bash
# Every test that needs no node of a cluster. Usage: test.sh WORKERS [PYTEST_ARGUMENT ...]
# DURATIONS=60 lists the 60 dearest tests and files at the end.
# On a new machine the programs of the control plane are built meanwhile; the tests that need them come last, and wait.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
workers=$1; shift

if [ $# = 0 ]; then
  # Niced: it takes the time that the tests leave. What it says is of interest when it fails; then a test says so too.
  nice tools/testcluster/build.sh tests >/dev/null 2>&1 &
  trap 'kill $! 2>/dev/null || true' EXIT
fi
measured=()
[ -z "${DURATIONS:-}" ] || measured=(-p tests.durations)
.venv/bin/python -m pytest -n "$workers" --dist loadfile --no-loadscope-reorder ${measured[@]+"${measured[@]}"} "$@"
