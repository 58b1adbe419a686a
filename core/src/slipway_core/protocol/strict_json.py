"""JSON that two readers cannot understand in two ways: no field twice, and no number that JSON does not have."""

from __future__ import annotations

import json
from typing import Any


def require_strict(text: str) -> None:
    """Raises ValueError that says what is wrong with a text, which is all that this is for: a model reads it then."""
    try:
        json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"has the field {twice[:64]!r} twice")
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"has the number {name}, which JSON has not")
