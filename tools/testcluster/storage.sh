#!/usr/bin/env bash
# The node's default StorageClass: a folder a claim, ReadWriteMany too, writable by any user. A process of node.sh.
# kube-controller-manager's own host-path provisioner makes folders that root alone can write, in /tmp.
# Usage: storage.sh KUBECTL KUBECONFIG FOLDER
set -uo pipefail
kubectl=$1 folder=$3
export KUBECONFIG=$2
PROVISIONER=slipway.dev/host-path CLASS=slipway-local

storage_class() {
  "$kubectl" apply --server-side -f - <<YAML
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: $CLASS
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: $PROVISIONER
reclaimPolicy: Delete
volumeBindingMode: Immediate
YAML
}

# follow RESOURCE JSONPATH: a line for each object that is there, or changes. A watch ends now and then.
follow() {
  while sleep 1; do "$kubectl" get "$1" --all-namespaces --watch -o jsonpath="$2"'{"\n"}'; done
}

provision() {
  local class phase namespace name uid size modes
  follow persistentvolumeclaims '{.spec.storageClassName} {.status.phase} {.metadata.namespace} {.metadata.name} {.metadata.uid} {.spec.resources.requests.storage} {.spec.accessModes[*]}' |
    while read -r class phase namespace name uid size modes; do
      [ "$class" = "$CLASS" ] && [ "$phase" = Pending ] && [ ! -d "$folder/pvc-$uid" ] || continue
      mkdir -p "$folder/pvc-$uid"
      chmod 0777 "$folder/pvc-$uid"
      "$kubectl" create -f - <<YAML
apiVersion: v1
kind: PersistentVolume
metadata:
  name: pvc-$uid
  annotations: {pv.kubernetes.io/provisioned-by: $PROVISIONER}
spec:
  storageClassName: $CLASS
  persistentVolumeReclaimPolicy: Delete
  capacity: {storage: "$size"}
  accessModes: [${modes// /, }]
  hostPath: {path: "$folder/pvc-$uid", type: Directory}
  claimRef: {apiVersion: v1, kind: PersistentVolumeClaim, namespace: "$namespace", name: "$name", uid: "$uid"}
YAML
    done
}

reclaim() {
  local class phase name
  follow persistentvolumes '{.spec.storageClassName} {.status.phase} {.metadata.name}' |
    while read -r class phase name; do
      [ "$class" = "$CLASS" ] && [ "$phase" = Released ] && [[ $name = pvc-* ]] || continue
      rm -rf "${folder:?}/$name"
      "$kubectl" delete persistentvolume "$name" --wait=false
    done
}

trap 'trap - TERM; kill 0' TERM
mkdir -p "$folder"
until storage_class; do sleep 1; done
provision &
reclaim &
wait
