#!/usr/bin/env bash
# Compile requirements/*.in into *.txt: every version and hash pinned, no index host written down.
# Pins that still fit stay; UPGRADE=1 moves them to the newest versions that the .in files allow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export UV_CUSTOM_COMPILE_COMMAND="make requirements"

compile() { # NAME [OPTION...]
  local name=$1
  shift
  echo "requirements/$name.txt"
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    ${UPGRADE:+--upgrade} "$@" "requirements/$name.in" -o "requirements/$name.txt"
}

compile uv
compile build
compile images
compile operator
compile cpu --override requirements/overrides.txt
compile cuda --override requirements/overrides.txt
# setuptools comes with either set, at the version that its vLLM asks for.
compile dev --override requirements/overrides.txt --no-emit-package setuptools
compile tasks --override requirements/overrides.txt --no-emit-package setuptools
