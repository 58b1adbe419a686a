"""Manifests as the cache keeps them: without what nobody reads, and sharing the words that all of them have."""

from __future__ import annotations

import sys
from typing import Any, cast

from slipway_operator.manifest import Manifest, at

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_WORD = 64
"""Characters up to which a text is likely to be in other manifests too: a name, a phase, an image, a path."""


def compact(manifest: Manifest) -> Manifest:
    """Returns a copy without managedFields and kubectl's own copy, with its field names and short texts shared.

    JSON is parsed with new strings for every object. Of 10,000 Jobs and pods most of the memory are these.
    """
    kept = {name: value for name, value in at(manifest, "metadata").items() if name != "managedFields"}
    notes = at(kept, "annotations")
    if _LAST_APPLIED in notes:
        kept["annotations"] = {name: value for name, value in notes.items() if name != _LAST_APPLIED}
    return cast(Manifest, _shared({**manifest, "metadata": kept}))


def _shared(value: Any) -> Any:
    if isinstance(value, dict):
        return {sys.intern(str(name)): _shared(held) for name, held in cast(Manifest, value).items()}
    if isinstance(value, list):
        return [_shared(held) for held in cast(list[Any], value)]
    if isinstance(value, str) and len(value) <= _WORD:
        return sys.intern(value) if type(value) is str else value
    return value
