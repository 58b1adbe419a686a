#!/usr/bin/env bash
# Shows that the node is a cluster: pods of a Job meet over a headless Service, a Service answers by its name, a claim
# takes what a pod without root writes, and goes with its data. Prints the seconds of each. Usage: check.sh, with the node up.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/versions.sh"
. "$here/cache.sh"
STATE=$NODE
for part in process packages archive containerd; do . "$here/lib/$part.sh"; done
kube() { "$BIN/kubectl" --kubeconfig "$NODE/admin.kubeconfig" --namespace slipway-check "$@"; }
busybox_image=slipway.dev/check:1

image() {
  on_node images ls -q | grep -qxF "$busybox_image" && return 0
  need_packages busybox-static
  local root
  root=$(mktemp -d)
  mkdir "$root/bin" "$root/tmp"
  cp "$(command -v busybox)" "$root/bin/"
  "$root/bin/busybox" --list | while read -r applet; do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
  archive "$root" "$busybox_image" "$root.tar" '{"Cmd":["sh"],"Env":["PATH=/bin"]}'
  on_node images import "$root.tar" >/dev/null
  rm -rf "$root" "$root.tar"
}

# pod COMMAND: what every pod here has beside its command; Pod Security `restricted` takes it.
pod() {
  cat <<YAML
securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
terminationGracePeriodSeconds: 1
containers:
- name: main
  image: $busybox_image
  command: [sh, -euc]
  args: ["$1"]
  securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
YAML
}

manifests() {
  cat <<YAML
apiVersion: v1
kind: Service
metadata: {name: pair}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {job-name: pair}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: pair}
spec:
  completionMode: Indexed
  completions: 2
  parallelism: 2
  backoffLimit: 0
  template:
    spec:
      subdomain: pair
      restartPolicy: Never
$(pod 'if [ $JOB_COMPLETION_INDEX = 0 ]; then echo hello | nc -l -p 29400; else i=0; until nc pair-0.pair 29400 | grep hello; do i=$((i+1)); [ $i -lt 60 ]; sleep 0.5; done; fi' | sed 's/^/      /')
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
$(pod 'while true; do echo answer | nc -l -p 8080; done' | sed 's/^/      /')
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: writer}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      volumes: [{name: shared, persistentVolumeClaim: {claimName: shared}}]
$(pod 'mkdir -p /shared/run; id -u >/shared/run/owner; cat /shared/run/owner' | sed 's/^/      /')
        volumeMounts: [{name: shared, mountPath: /shared}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: asker}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
$(pod 'for i in 1 2 3 4 5 6; do n=0; until echo | nc -w 2 web.slipway-check.svc.cluster.local 80 | grep answer; do n=$((n+1)); [ $n -lt 60 ]; sleep 0.5; done; done; nslookup kubernetes.default.svc.cluster.local' | sed 's/^/      /')
YAML
}

# shows WHAT COMMAND...: and how long after the start.
shows() {
  local what=$1; shift
  "$@" >/dev/null || { kube get pods,persistentvolumeclaims,events >&2; die "$what: failed"; }
  say "$what: after $((SECONDS - begin)) s"
}

gone() { ! compgen -G "$NODE/volumes/pvc-$claim" >/dev/null && ! kube get persistentvolume "pvc-$claim" 2>/dev/null; }
wait_for() { local tries; for ((tries = 0; tries < 300; tries++)); do "$@" && return 0; sleep 0.2; done; return 1; }

image
kube delete namespace slipway-check --ignore-not-found >/dev/null 2>&1
kube create namespace slipway-check >/dev/null
kube label namespace slipway-check pod-security.kubernetes.io/enforce=restricted >/dev/null
begin=$SECONDS
wait_for kube get serviceaccount default >/dev/null 2>&1
manifests | kube apply -f - >/dev/null
shows "two pods of an Indexed Job met over a headless Service" kube wait --for=condition=complete job/pair --timeout=60s
shows "a ReadWriteMany claim took what user 65532 wrote" kube wait --for=condition=complete job/writer --timeout=60s
[ "$(kube logs job/writer)" = 65532 ] || die "the writer's log is not 65532"
shows "a Deployment answered through its Service's name" kube wait --for=condition=complete job/asker --timeout=60s
shows "exec works" kube exec deployment/web -- true
claim=$(kube get persistentvolumeclaim shared -o jsonpath='{.metadata.uid}')
kube delete namespace slipway-check >/dev/null 2>&1
shows "the claim's data went with the claim" wait_for gone
