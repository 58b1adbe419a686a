"""Manifests as the cache keeps them: without what no pass reads, and sharing the words that all of them have.

A finished run leaves Jobs and pods, and most of those is what they were made from: with 10,000 of them that was more
than half of the operator's memory. So a Job is kept without its template, and a pod without volumes, and of its
containers with names, images, ports and resources alone.
"""

from __future__ import annotations

import sys
from typing import Any, Final, cast

from slipway_operator.kube.kinds import JOB, POD
from slipway_operator.kube.manifest import Manifest, at, items

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_WORD: Final = 64
"""Characters up to which a text is likely to be in other manifests too: a name, a phase, an image, a path."""
_OF_POD: Final = frozenset({"nodeName", "containers", "initContainers", "priorityClassName"})
_OF_CONTAINER: Final = frozenset({"name", "image", "ports", "resources"})


def trimmed(manifest: Manifest) -> Manifest:
    """Returns a copy without what no pass reads, and with its field names and short texts shared."""
    metadata = {name: value for name, value in at(manifest, "metadata").items() if name != "managedFields"}
    notes = at(metadata, "annotations")
    if _LAST_APPLIED in notes:
        metadata["annotations"] = {name: value for name, value in notes.items() if name != _LAST_APPLIED}
    kept = {**manifest, "metadata": metadata}
    if "spec" in manifest and manifest["kind"] == JOB.kind:
        kept["spec"] = {name: value for name, value in at(manifest, "spec").items() if name != "template"}
    elif "spec" in manifest and manifest["kind"] == POD.kind:
        kept["spec"] = _pod_spec(at(manifest, "spec"))
    return cast(Manifest, _shared(kept))


def _pod_spec(spec: Manifest) -> Manifest:
    kept = {name: value for name, value in spec.items() if name in _OF_POD}
    for field in ("containers", "initContainers"):
        if field in kept:
            kept[field] = [
                {name: value for name, value in container.items() if name in _OF_CONTAINER}
                for container in items(spec, field)
            ]
    return kept


def _shared(value: Any) -> Any:
    # JSON is parsed with new strings for every object.
    if isinstance(value, dict):
        return {sys.intern(name): _shared(held) for name, held in cast(Manifest, value).items()}
    if isinstance(value, list):
        return [_shared(held) for held in cast(list[Any], value)]
    if type(value) is str and len(value) <= _WORD:
        return sys.intern(value)
    return value
