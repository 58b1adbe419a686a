"""Manifests as the cache keeps them: without what no pass reads, and sharing the words that all of them have.

A finished run leaves Jobs and pods, and most of those is what they were made from: with 10,000 of them that was more
than half of the operator's memory. So a Job is kept without its template, and a pod without volumes, and of its
containers with names, images, ports and resources alone. Of a ConfigMap, which may be anybody's with 1 MB, only the
metadata is kept: who needs its data reads it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final, cast

from slipway_core.lifecycle.annotations import REMOVE_ANNOTATION
from slipway_operator import names
from slipway_operator.kube.kinds import JOB, METADATA_ALONE, POD
from slipway_operator.kube.manifest import Manifest, at, items

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_WORD: Final = 64
"""Characters up to which a text is likely to be in other manifests too: a name, a phase, an image, a path."""
_OF_RECORD: Final = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels"}
)
_NOTES_OF_RECORD: Final = (names.ORPHANED_AT, names.KEPT_BY, names.FOLDER, names.REMOVING, REMOVE_ANNOTATION)
_NOTE: Final = 1024
"""Characters of a record's annotation that are kept: anybody's may have 256 KiB."""
_OF_POD: Final = frozenset({"nodeName", "containers", "initContainers", "priorityClassName"})
_OF_CONTAINER: Final = frozenset({"name", "image", "ports", "resources"})
_NOT_OF_POD_STATUS: Final = frozenset({"hostIP", "hostIPs", "podIPs", "qosClass", "resources", "observedGeneration"})
_OF_CONTAINER_STATUS: Final = frozenset({"name", "image", "state", "lastState", "ready", "restartCount"})
_OBJECT, _FIELD, _ITEM, _TEXT, _SHARED_TEXT = 64, 60, 8, 50, 24
"""Bytes of an object, of each of its fields, of an item of a list, and of a text beyond its characters. A short text is
most often another object's too."""


@dataclass
class Weight:
    """Bytes that a manifest takes in memory, estimated."""

    bytes: int = 0


def trimmed(manifest: Manifest) -> tuple[Manifest, int]:
    """Returns a copy without what no pass reads, and with its field names and short texts shared; and the bytes that it
    takes, estimated."""
    weight = Weight()
    return cast(Manifest, _shared(_kept(manifest), weight)), weight.bytes


def _kept(manifest: Manifest) -> Manifest:
    if manifest["kind"] in [kind.kind for kind in METADATA_ALONE]:
        own = {name: value for name, value in at(manifest, "metadata").items() if name in _OF_RECORD}
        notes = at(manifest, "metadata", "annotations")
        if told := {name: str(notes[name])[:_NOTE] for name in _NOTES_OF_RECORD if name in notes}:
            own["annotations"] = told
        return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": own}
    metadata = {name: value for name, value in at(manifest, "metadata").items() if name != "managedFields"}
    notes = at(metadata, "annotations")
    if _LAST_APPLIED in notes:
        metadata["annotations"] = {name: value for name, value in notes.items() if name != _LAST_APPLIED}
    kept = {**manifest, "metadata": metadata}
    if "spec" in manifest and manifest["kind"] == JOB.kind:
        unread = ("template", "podFailurePolicy", "selector")
        kept["spec"] = {name: value for name, value in at(manifest, "spec").items() if name not in unread}
    elif "spec" in manifest and manifest["kind"] == POD.kind:
        kept["spec"] = _pod_spec(at(manifest, "spec"))
        if "status" in manifest:
            kept["status"] = _pod_status(at(manifest, "status"))
    return kept


def _pod_spec(spec: Manifest) -> Manifest:
    kept = {name: value for name, value in spec.items() if name in _OF_POD}
    for field in ("containers", "initContainers"):
        if field in kept:
            kept[field] = [
                {name: value for name, value in container.items() if name in _OF_CONTAINER}
                for container in items(spec, field)
            ]
    return kept


def _pod_status(status: Manifest) -> Manifest:
    kept = {name: value for name, value in status.items() if name not in _NOT_OF_POD_STATUS}
    for field in ("containerStatuses", "initContainerStatuses"):
        if field in kept:
            kept[field] = [
                {name: value for name, value in container.items() if name in _OF_CONTAINER_STATUS}
                for container in items(status, field)
            ]
    return kept


def _shared(value: Any, weight: Weight) -> Any:
    # JSON is parsed with new strings for every object.
    if isinstance(value, dict):
        fields = cast(Manifest, value)
        weight.bytes += _OBJECT + _FIELD * len(fields)
        return {sys.intern(name): _shared(held, weight) for name, held in fields.items()}
    if isinstance(value, list):
        weight.bytes += _OBJECT + _ITEM * len(cast(list[Any], value))
        return [_shared(held, weight) for held in cast(list[Any], value)]
    if type(value) is not str:
        return value
    if len(value) <= _WORD:
        weight.bytes += _SHARED_TEXT + len(value)
        return sys.intern(value)
    weight.bytes += _TEXT + len(value)
    return value
