#!/usr/bin/env bash
# Set up .venv: the run-time set of VARIANT (cpu or cuda), the development set, and Slipway's own packages.
#
# Needs python3 >= 3.11 with venv, and nothing else: no root, no compiler. uv comes from PyPI, by hash.
# Running it again costs a few hashes when nothing changed; what was downloaded once comes from uv's cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=.venv
STAMP=$VENV/.slipway-setup
UNFINISHED=$VENV/.slipway-setup-unfinished

fail() {
  echo "make setup: $*" >&2
  exit 1
}

# --- which set ---------------------------------------------------------------------------------------------------
has_nvidia_gpu() {
  compgen -G '/dev/nvidia[0-9]*' >/dev/null || nvidia-smi -L 2>/dev/null | grep -q '^GPU '
}

# The set asked for; else the set that is installed, so that a plain `make test` never swaps it; else what fits.
pick_variant() {
  local installed
  installed=$(sed -n 's/^variant //p' "$STAMP" 2>/dev/null || true)
  if [ -n "${VARIANT:-}" ]; then
    echo "$VARIANT"
  elif [ -n "$installed" ]; then
    echo "$installed"
  elif has_nvidia_gpu; then
    echo cuda
  else
    echo cpu
  fi
}

variant=$(pick_variant)
case $variant in
  # GiB that .venv takes and that travel; uv's cache and .venv are hard links to the same blocks where they can be.
  cpu) need_gib=9 download_gib=3 ;;
  cuda) need_gib=12 download_gib=4 ;;
  *) fail "VARIANT=$variant is not a set; use VARIANT=cpu or VARIANT=cuda" ;;
esac

# --- nothing to do? ------------------------------------------------------------------------------------------------
# Everything that decides what is installed, the folder included: the scripts in .venv/bin hold its absolute path.
wanted=$(
  echo "variant $variant"
  echo "folder $PWD"
  sha256sum requirements/{"$variant",dev,uv,build}.txt {core,host,fetching,trainer,serving,operator,cli}/pyproject.toml tools/setup.sh
)
is_set_up() { [ -x $VENV/bin/python ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ]; }
if is_set_up; then exit 0; fi

# One set-up of a checkout at a time; util-linux's flock is part of every Debian and Ubuntu.
if command -v flock >/dev/null; then
  exec 9<requirements/uv.txt
  flock 9
  if is_set_up; then exit 0; fi
fi

# --- can it work here? ---------------------------------------------------------------------------------------------
[ "$(uname -s)" = Linux ] || fail "Slipway runs on Linux; this is $(uname -s)"

# The first Python that is new enough: the machine's own python3 before the ones with a version in their names.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}
what_python_is() { "${PYTHON:-python3}" -V 2>/dev/null || echo "nothing that runs as ${PYTHON:-python3}"; }
python=$(find_python) || fail "needs Python 3.11 or newer, found $(what_python_is); install one" \
  "(Debian 12+, Ubuntu 24.04+: apt-get install python3 python3-venv) or name it: make setup PYTHON=/path/to/python3"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  fail "$python has no venv module; on Debian and Ubuntu: apt-get install $(basename "$python")-venv"

export UV_CACHE_DIR=${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/uv}
# A user without a home (a container's random user id) still gets a cache, beside what it fills.
mkdir -p "$UV_CACHE_DIR" 2>/dev/null && [ -w "$UV_CACHE_DIR" ] || UV_CACHE_DIR=$PWD/$VENV/.uv-cache

free_gib() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1048576) }'; }
file_system() { df -Pk "$1" | awk 'NR == 2 { print $1 " " $6 }'; }

check_disk() {
  local cache=$UV_CACHE_DIR installed=0 need
  [ -d "$cache" ] || cache=.
  [ -d $VENV ] && installed=$(du -sk $VENV | awk '{ print int($1 / 1048576) }')
  need=$((need_gib - installed))
  [ "$(free_gib .)" -ge $need ] ||
    fail "the $variant set needs $need GiB more in $PWD, and $(free_gib .) GiB are free; make room there"
  if [ "$(file_system .)" != "$(file_system "$cache")" ] && [ "$(free_gib "$cache")" -lt $need ]; then
    fail "downloads of up to $need GiB go to $cache, and $(free_gib "$cache") GiB are free there;" \
      "set UV_CACHE_DIR to a folder with room"
  fi
}
check_disk

# --- install -------------------------------------------------------------------------------------------------------
started=$SECONDS
echo "Setting up $VENV: the $variant set (about $download_gib GiB to download, once), with $("$python" -V)"

rm -f "$STAMP"

# Made again when its Python is gone or is another one than asked for, when the checkout was moved, and when an
# install was cut off: uv takes a package whose files were copied in part for installed.
in_place() {
  [ "$($VENV/bin/python -c 'import sys; print(sys.prefix)' 2>/dev/null)" = "$PWD/$VENV" ] &&
    head -1 $VENV/bin/pip 2>/dev/null | grep -qF "$PWD/$VENV/"
}
same_python() {
  [ -z "${PYTHON:-}" ] || [ "$($VENV/bin/python -V 2>&1)" = "$("$python" -V 2>&1)" ]
}
if [ -e $UNFINISHED ] || ! { in_place && same_python && $VENV/bin/python -m pip --version >/dev/null 2>&1; }; then
  "$python" -m venv --clear $VENV || fail "$python could not make $PWD/$VENV"
fi

# uv trusts what the machine trusts (an intercepting proxy's certificate), and goes where pip is told to go.
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}; fi
if [ -n "${PIP_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}; fi
if [ -n "${PIP_CERT:-}" ]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}; fi

export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300} UV_PYTHON_DOWNLOADS=never UV_NO_CONFIG=1
# DeepSpeed's index entry is a source archive: build it as plain Python, without its compiled operators.
export DS_BUILD_OPS=0
unset VIRTUAL_ENV

pinned_uv=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements/uv.txt)
if [ "$($VENV/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$pinned_uv" ]; then
  $VENV/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps \
    --only-binary :all: -r requirements/uv.txt || fail "pip could not install uv from the package index (see above)"
fi

quiet=--quiet
[ -t 2 ] && quiet= # a person wants to see the downloads move
uv_pip() { $VENV/bin/uv $quiet pip "$@" --python $VENV/bin/python; }
touch $UNFINISHED
uv_pip sync --require-hashes --build-constraints requirements/build.txt \
  requirements/"$variant".txt requirements/dev.txt requirements/uv.txt ||
  fail "uv could not install the $variant set (see above); downloads are kept for the next make setup"
uv_pip install --no-deps --no-build-isolation -e core -e host -e fetching -e trainer -e serving -e operator -e cli ||
  fail "Slipway's own packages could not be installed (see above)"

# vLLM's CPU kernels want libnuma.so.1, which no wheel brings and a small Debian lacks. Its package is fetched and
# unpacked into .venv, by apt run as a plain user with lists of its own; the server looks there.
needs_libnuma() {
  [ "$variant" = cpu ] && [ ! -e $VENV/lib/libnuma.so.1 ] &&
    ! $VENV/bin/python -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null
}
fetch_libnuma() (
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  mkdir -p "$folder"/{state/lists/partial,cache/archives/partial}
  cd "$folder"
  own=(-o "Dir::State=$folder/state" -o "Dir::Cache=$folder/cache" -o Dir::State::status=/var/lib/dpkg/status)
  apt-get -qq "${own[@]}" update && apt-get -qq "${own[@]}" download libnuma1 && dpkg-deb -x libnuma1_*.deb unpacked &&
    cp unpacked/usr/lib/*/libnuma.so.1 "$1/lib/"
) >/dev/null 2>&1
if needs_libnuma && ! fetch_libnuma "$PWD/$VENV"; then
  echo "make setup: vLLM needs libnuma.so.1 to serve on a CPU; before you serve: sudo apt-get install libnuma1" >&2
fi

rm $UNFINISHED
echo "$wanted" >"$STAMP"
echo "Set up in $((SECONDS - started)) s ($(du -sh $VENV | cut -f1) in $VENV)"
