#!/usr/bin/env bash
# Checks and measures the trainer on one GPU, offline. Usage: check.sh [--minutes 8] [--out FOLDER] [...]
#
# PYTHON: one of 3.12 that has torch, transformers and peft; python3 when unset. GPU_PACK: the folder of `make gpu-pack`;
# .gpu-pack when unset. What is in it is installed into a folder beside, and nothing is changed in the Python: a virtual
# environment would not see the packages of one that is a virtual environment itself.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
pack=${GPU_PACK:-.gpu-pack}

compgen -G "$pack/*.whl" >/dev/null || {
  echo "bench/gpu/check.sh: $pack holds no wheels. Run \`make gpu-pack\` where there is a network" >&2
  exit 1
}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' || {
  echo "bench/gpu/check.sh: the wheels are for Python 3.12, and $python is $("$python" -V). Set PYTHON" >&2
  exit 1
}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"$python" -m pip install --quiet --disable-pip-version-check --no-input --no-index --no-deps --no-compile \
  --no-cache-dir --target "$site" "$pack"/*.whl
parts=(core host fetching trainer)
export PYTHONPATH=$site$(printf ":$PWD/%s/src" "${parts[@]}"):$PWD${PYTHONPATH:+:$PYTHONPATH}
"$python" -m bench.gpu.check "$@"
