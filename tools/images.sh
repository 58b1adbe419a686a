#!/usr/bin/env bash
# Build slipway-train, slipway-serve and slipway-operator: with Docker where its daemon answers, else with BuildKit
# straight into the image store of the test cluster's node, unpacked.
# Usage: images.sh [train] [serve] [operator]
#   VARIANT=cpu|cuda      what torch and vLLM run on (cpu)
#   TAG=dev               tag of the images
#   TASKS=1               with lm-evaluation-harness in the train image, for evaluation.tasks
#   BASE_IMAGE=NAME       another Debian bookworm than debian:bookworm-slim
#   BUILDKIT=ADDRESS      a buildkitd with a containerd worker, instead of the test cluster's own
#   PIP_INDEX_URL=URL     a package index of your own; it goes into no layer
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/testcluster/cache.sh

VARIANT=${VARIANT:-cpu}
TAG=${TAG:-dev}
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt
# What one set of images takes twice over: once as blobs, once unpacked. An older set goes: a disk fills in a week.
CACHE_GB=20

fail() {
  echo "make images: $*" >&2
  exit 1
}

case $VARIANT in cpu | cuda) ;; *) fail "VARIANT=$VARIANT is not a set; use VARIANT=cpu or VARIANT=cuda" ;; esac
[ $# -gt 0 ] || set -- train serve operator
for name; do [ -f "Dockerfile.$name" ] || fail "there is no image $name; there is train, serve, operator"; done

# --- what both ways tell the build ---------------------------------------------------------------------------------
version=$(sed -n 's/^version = "\(.*\)"/\1/p' core/pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
arguments=("VARIANT=$VARIANT" "VERSION=$version" "REVISION=$revision")
[ -z "${TASKS:-}" ] || arguments+=("TASKS=$TASKS")
# Known to every Dockerfile, and in no layer.
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
  [ -z "${!name:-}" ] || arguments+=("$name=${!name}")
done
secrets=()
# Inside a build the machine's own certificates must be trusted (an intercepting proxy's).
[ -f $CERTIFICATES ] && secrets+=(--secret "id=certificates,src=$CERTIFICATES")
[ -n "${PIP_INDEX_URL:-}" ] && secrets+=(--secret id=index,env=PIP_INDEX_URL)

# --- with Docker ---------------------------------------------------------------------------------------------------
with_docker() { # NAME
  local given=()
  [ -n "${BASE_IMAGE:-}" ] && given+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
  # The Dockerfiles want a newer frontend (secrets as variables) than many daemons bring.
  given+=(--build-arg BUILDKIT_SYNTAX=docker/dockerfile:1)
  DOCKER_BUILDKIT=1 docker build --quiet --file "Dockerfile.$1" --tag "slipway-$1:$TAG" "${secrets[@]}" "${given[@]}" \
    "${arguments[@]/#/--build-arg=}" . >/dev/null
}

# --- with BuildKit -------------------------------------------------------------------------------------------------
buildctl() { "$BIN/buildctl" --addr "$address" "$@"; }

into_node() { # IMAGE FOLDER OPTION...
  local image=$1 folder=$2 log
  shift 2
  log=$(mktemp)
  # The host's network: a node without a bridge for builds, and a proxy on 127.0.0.1, work too.
  buildctl build --progress=plain --allow network.host --frontend dockerfile.v0 \
    --local "context=$folder" --local "dockerfile=$folder" \
    --opt image-resolve-mode=local --opt force-network-mode=host "$@" \
    --output "type=image,name=docker.io/library/$image,unpack=true,compression=uncompressed" >"$log" 2>&1 ||
    { tail -40 "$log" >&2; fail "$image could not be built; the whole log is $log"; }
  rm "$log"
}

with_buildkit() { # NAME
  into_node "slipway-$1:$TAG" . --opt "filename=Dockerfile.$1" --opt "build-arg:BASE_IMAGE=$base" "${secrets[@]}" \
    "${options[@]}"
}

prepare_buildkit() {
  # Two that build the same would each unpack 6 GB, and prune what the other is about to use.
  exec 9>"$CACHE/.lock-images"
  flock -n 9 || { echo "make images: another one builds images on this machine; waiting for it"; flock 9; }
  address=${BUILDKIT:-}
  [ -n "$address" ] || address=$(tools/testcluster/buildkit.sh 9>&-) # Not to be held by a daemon.
  options=()
  local argument
  for argument in "${arguments[@]}"; do options+=(--opt "build-arg:$argument"); done
  base=${BASE_IMAGE:-}
  if [ -z "$base" ]; then
    base=docker.io/library/slipway-base:bookworm
    tools/base_image.sh "$CACHE/base"
    into_node slipway-base:bookworm "$CACHE/base"
  fi
}

# --- build ---------------------------------------------------------------------------------------------------------
if docker info >/dev/null 2>&1; then
  build=with_docker
  daemon=$(docker version --format '{{.Server.Version}}')
  [ "${daemon%%.*}" -ge 23 ] || fail "Docker $daemon is too old for these Dockerfiles; use 23 or newer"
else
  build=with_buildkit
  prepare_buildkit
fi
built=()
for name; do
  started=$SECONDS
  $build "$name"
  built+=("slipway-$name:$TAG")
  echo "slipway-$name:$TAG ($VARIANT) is built ($((SECONDS - started)) s)"
done
[ $build = with_buildkit ] || tools/testcluster/cluster.sh load "${built[@]}"
if [ $build = with_buildkit ]; then buildctl prune --keep-storage $((CACHE_GB * 1000)) >/dev/null; fi
