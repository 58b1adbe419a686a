"""The manifest of a model as it goes to a public place, which a push may be: nothing in it tells where things lie.

The digest of a model does not cover its manifest: a model has the same one there as here. The run's own folder keeps
the manifest whole.
"""

from __future__ import annotations

import re
from typing import Any, cast

from slipway_core.protocol.artifact import Manifest

_PUBLIC = ("hf", "package")
"""Schemes of names that mean the same everywhere. Any other is a place of one machine, store or namespace."""
_URI = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_LINKS = "links"
"""Of a stage: where its tracker shows it."""


def public(manifest: Manifest) -> Manifest:
    """Returns the manifest with each place of one machine, bucket, claim or server by the last part of its name. A
    field `uri` is called `name` then: a name can be looked up nowhere."""
    return manifest.model_copy(update={"lineage": _public(manifest.lineage)})


def last_part(uri: str) -> str:
    """Returns what remains of a place."""
    return uri.rstrip("/").rpartition("/")[2]


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        fields = cast(dict[str, Any], value).items()
        return {
            "name" if name == "uri" and _private(own) else name: _public(own) for name, own in fields if name != _LINKS
        }
    if isinstance(value, list):
        return [_public(one) for one in cast(list[Any], value)]
    return last_part(value) if _private(value) else value


def _private(value: Any) -> bool:
    found = _URI.match(value) if isinstance(value, str) else None
    return found is not None and found[1].lower() not in _PUBLIC
