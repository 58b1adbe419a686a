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

# Generate into a copy of the tree and compare, so that the check never writes into the tree that it checks.
generated_files() {
  local copy status=0
  copy=$(mktemp -d)
  git ls-files -z --cached --others --exclude-standard | xargs -0 sh -c 'for f; do [ -f "$f" ] && printf "%s\0" "$f"; done' _ |
    tar --create --null --files-from=- | tar --extract --directory "$copy"
  (
    cd "$copy" || exit
    git init --quiet && git add --all && PYTHONPATH=$copy/core/src "$BIN/python" -m slipway_core.generate &&
      git add --all --intent-to-add && git --no-pager diff --exit-code
  ) || status=1
  rm -rf "$copy"
  [ $status -eq 0 ] || echo "generated files differ from the models in core/: run make generate, and commit" >&2
  return $status
}

python_files=()
for folder in core trainer serving cli tests bench; do [ -d $folder ] && python_files+=("$folder"); done

check "generated files" generated_files
check "ruff check" "$BIN/ruff" check --quiet "${python_files[@]}"
check "ruff format" "$BIN/ruff" format --check --quiet "${python_files[@]}"
check "pyright" "$BIN/pyright"
check "import-linter" "$BIN/lint-imports" --no-logo

if [ ${#failed[@]} -gt 0 ]; then
  printf 'make verify: failed: %s\n' "${failed[*]}" >&2
  exit 1
fi
echo "make verify: all checks passed"
