"""JSON that somebody else may have written: another release, a program of the user's, or whoever gave a model away."""

from __future__ import annotations

import json
from typing import Any

_DIGITS = 300
"""Of a whole number that still is a float."""


def loads(text: str | bytes) -> Any:
    """Returns what a text holds. Raises ValueError for one that is no JSON, that is nested too deeply, or that has a
    whole number which no float holds."""
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"has a number of {len(digits)} digits")
    return int(digits)
