#!/usr/bin/env bash
# Check what needs no test run: generated files, style, types, directions of imports. Runs all checks, then says
# which failed. It changes nothing, and it takes the working tree as it is, uncommitted edits included.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
BIN=$PWD/.venv/bin
failed=()

check() { # NAME COMMAND...
  local name=$1
  shift
  echo "== $name"
  "$@" || failed+=("$name")
}

python_files=()
for folder in core host fetching trainer serving operator cli charts tests bench; do [ -d $folder ] && python_files+=("$folder"); done

check "generated files" "$BIN/python" -m slipway_core.documents.generate --check
check "decisions of docs/memory.md" "$BIN/python" -m slipway_trainer.preview.memory_decisions --check
check "ruff check" "$BIN/ruff" check --quiet "${python_files[@]}"
check "ruff format" "$BIN/ruff" format --check --quiet "${python_files[@]}"
check "pyright" "$BIN/pyright"
check "import-linter" "$BIN/lint-imports" --no-logo
check "chart" tools/verify_chart.sh

if [ ${#failed[@]} -gt 0 ]; then
  printf 'make verify: failed: %s\n' "${failed[*]}" >&2
  exit 1
fi
echo "make verify: all checks passed"
