#!/usr/bin/env bash
# A real control plane without a node: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and KWOK for pods.
# Needs no root. Everything listens on free ports of 127.0.0.1, so several may run at once, each in its own STATE folder.
#
#   control-plane.sh up STATE [--kwok-config FILE] [--no-kwok] [--nodes N] [--qps N]
#   control-plane.sh restart STATE NAME       apiserver, etcd, controller-manager, scheduler, kwok
#   control-plane.sh status STATE
#   control-plane.sh down STATE               keeps STATE/log alone
#
# --kwok-config  Stages for kwok (or other configuration of it) in place of its own
# --nodes        how many KWOK nodes there are: 1, or 0 with --no-kwok
# --qps          requests a second that each of the cluster's own clients may send, burst twice that: 200
#
# In STATE: admin.kubeconfig; operator.kubeconfig, which is the service account slipway-system/slipway-operator;
# log/NAME.log; log/audit.jsonl, an audit event (level Metadata) for every write.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/cache.sh"
for part in process ports pki control_plane kwok; do . "$here/lib/$part.sh"; done

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

up() {
  local kwok=yes kwok_config='' nodes='' qps=200 api etcd peer
  while [ $# -gt 0 ]; do
    case $1 in
      --kwok-config) kwok_config=$(realpath -e "${2:-}") || die "--kwok-config wants a file, found '${2:-}'"; shift 2 ;;
      --no-kwok) kwok=; shift ;;
      --nodes) nodes=${2:-}; shift 2 ;;
      --qps) qps=${2:-}; shift 2 ;;
      *) usage >&2; die "up does not know '$1'" ;;
    esac
  done
  nodes=${nodes:-${kwok:+1}}
  "$here/build.sh" kubernetes etcd kwok
  [ -f "$STATE/ports" ] || fresh 3
  read -r api etcd peer <"$STATE/ports"

  trap '[ $? = 0 ] || stop_what_started' EXIT
  start_etcd "$etcd" "$peer"
  identities "https://127.0.0.1:$api"
  # An address of the documentation: no node runs here, so nobody reaches the Service `kubernetes`.
  start_apiserver 127.0.0.1 "$api" "$etcd" --authorization-mode=Node,RBAC --advertise-address=192.0.2.1 \
    --endpoint-reconciler-type=none
  await apiserver 60 api_ready
  start_controllers "$qps"
  [ -n "$kwok" ] && start_kwok "$kwok_config"
  [ "${nodes:-0}" -gt 0 ] && kwok_nodes "$nodes" | "$BIN/kubectl" --kubeconfig "$STATE/admin.kubeconfig" apply --server-side -f - >/dev/null
  await controller-manager 30 default_account_ready
  running scheduler || give_up scheduler "ended at its start"
  [ -z "$kwok" ] || await kwok 30 kwok_watches
  say "ready after $SECONDS s"
  echo "export KUBECONFIG=$STATE/admin.kubeconfig"
}

status() {
  local name
  [ -f "$STATE/ports" ] || die "no control plane was started in $STATE"
  for name in $(names); do
    if running "$name"; then say "$name runs (pid $(pid_of "$name"))"; else say "$name has ended: $STATE/log/$name.log"; fi
  done
  api_ready >/dev/null 2>&1 || die "the API server does not answer"
  echo "export KUBECONFIG=$STATE/admin.kubeconfig"
}

# again NAME: restarts it, and waits until the API server answers.
again() {
  restart "${1:-}"
  await "$1" 60 api_ready
}

down() {
  # shellcheck disable=SC2046  # names have no spaces
  stop $(names | grep -vxE 'apiserver|etcd') apiserver etcd
  # Only a folder of ours is emptied, and its logs stay: a test reads them after the end.
  [ -f "$STATE/ports" ] || return 0
  find "$STATE" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +
}

command=${1:-help}
case $command in
  up | down | status | restart)
    [ -n "${2:-}" ] || { usage >&2; die "$command wants the folder of the state"; }
    STATE=$(realpath -m "$2"); shift 2
    [ "$command" = restart ] && command=again
    "$command" "$@" ;;
  help | -h | --help) usage ;;
  *) usage >&2; die "control-plane.sh does not know '$command'" ;;
esac
