#!/usr/bin/env bash
# Downloads the wheels that a GPU host without a network lacks. Usage: pack.sh [FOLDER]
#
# For Python 3.12 on Linux x86_64, at the versions and hashes of requirements/cuda.txt. What bench/gpu/packages.txt does
# not name (torch, transformers, peft, numpy and what they need) is there already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:-.gpu-pack}
python=.venv/bin/python

fail() {
  echo "gpu-pack: $*" >&2
  exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The pin of a package with its hashes: from its line to the first that does not go on.
pin() {
  awk -v start="$1==" 'index($0, start) == 1 { found = 1 } found { print } found && !/\\$/ { exit }' requirements/cuda.txt
}
while read -r name; do
  pinned=$(pin "$name")
  [ -n "$pinned" ] || fail "requirements/cuda.txt does not pin $name, which bench/gpu/packages.txt names"
  if [ "$name" = deepspeed ]; then echo "$pinned" >"$work/source.txt"; else echo "$pinned" >>"$work/wheels.txt"; fi
done < <(grep -v '^#' bench/gpu/packages.txt)

pip() { $python -m pip "$@" --quiet --disable-pip-version-check --no-input --no-deps --require-hashes; }
pip download --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 --abi abi3 --abi none \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
  --platform manylinux2014_x86_64 --platform manylinux_2_12_x86_64 --platform manylinux2010_x86_64 --platform any \
  -r "$work/wheels.txt" -d "$work/pack" || fail "pip could not download the wheels (see above)"
# In an environment of its own, without torch: then no operator of its own is looked for, let alone compiled.
DS_BUILD_OPS=0 PIP_CONSTRAINT=$PWD/requirements/build.in pip wheel -r "$work/source.txt" -w "$work/pack" ||
  fail "pip could not build DeepSpeed's wheel (see above)"
compgen -G "$work/pack/deepspeed-*-py3-none-any.whl" >/dev/null || fail "DeepSpeed's wheel is not plain Python"

rm -rf "$folder"
mkdir -p "$folder"
cp "$work"/pack/*.whl "$folder"
echo "$(compgen -G "$folder/*.whl" | wc -l) wheels, $(du -sh "$folder" | cut -f1), in $folder"
