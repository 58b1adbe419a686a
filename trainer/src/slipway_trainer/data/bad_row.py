"""How values of a row are shown in errors, and what a row is refused with before its file and line are known."""

from __future__ import annotations

import json
from typing import Any

from slipway_trainer.data.text import fault

SHOWN_CHARACTERS = 60


class BadRow(ValueError):
    """A row cannot be used. The message says what of it, and what to do; file and line are put before it."""


def shown(value: Any) -> str:
    """Returns a value short, on one line, and printable."""
    text = printable(json.dumps(value, ensure_ascii=False, default=repr))
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "…"


def printable(text: str) -> str:
    """Half a surrogate pair cannot be printed or put into a result."""
    return text.encode("utf-8", "backslashreplace").decode()


def string(value: Any, what: str) -> str:
    """Returns a value that is usable text. Raises BadRow."""
    if not isinstance(value, str):
        raise BadRow(f"{what} is {shown(value)}; it must be a string")
    if problem := fault(value):
        raise BadRow(f"{what} has {problem}")
    return value
