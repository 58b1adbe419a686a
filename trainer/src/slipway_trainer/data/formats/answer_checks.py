"""What a prompt's row says an answer has to be like, beside the answers that it is compared with.

A field that cannot be read so is the user's own column, unless a gate asks for its metric (`prepare/answer_check.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIELDS = ("pattern", "schema", "tolerance", "language", "minLength", "maxLength")
METRIC_OF = {
    "pattern": "regex_match",
    "schema": "json_schema",
    "tolerance": "number_match",
    "language": "language_match",
    "minLength": "answer_length",
    "maxLength": "answer_length",
}
"""Which metric asks for a field."""


@dataclass(frozen=True)
class Checks:
    """As they stand in the row, read but not tried."""

    pattern: str | None = None
    """A regular expression of RE2 that is looked for in the answer."""
    schema: str | None = None
    """A JSON schema, as JSON."""
    tolerance: float | None = None
    """How far a number may be from the reference."""
    language: str | None = None
    """ISO 639-1 code."""
    minLength: int | None = None
    """Characters of the answer, at the least."""
    maxLength: int | None = None

    def to_document(self) -> dict[str, Any]:
        """Returns those that there are."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}


NONE = Checks()


def read(row: Mapping[str, Any]) -> tuple[Checks, dict[str, str]]:
    """Returns what a row asks of an answer, and for each field that cannot be read so what is wrong with it."""
    found: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name in FIELDS:
        if (value := row.get(name)) is None:
            continue
        value, problem = _READERS[name](value)
        if problem is None:
            found[name] = value
        else:
            wrong[name] = problem
    least, most = found.get("minLength"), found.get("maxLength")
    if least is not None and most is not None and least > most:
        wrong["minLength"] = f"it is {least}, and maxLength is {most}: no answer is both"
        del found["minLength"], found["maxLength"]
    return (Checks(**found), wrong) if found or wrong else (NONE, wrong)


def _text(value: Any) -> tuple[Any, str | None]:
    if isinstance(value, str) and value.strip():
        return value, None
    return None, "it must be a text that is not empty"


def _schema(value: Any) -> tuple[Any, str | None]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None, "it is no JSON. Write a JSON schema, as an object or as its text"
    if not isinstance(value, dict | bool):
        return None, "a JSON schema is an object, true or false"
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False), None
    except (ValueError, TypeError, RecursionError):
        return None, "it holds what JSON has not"


def _tolerance(value: Any) -> tuple[Any, str | None]:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value), None
    return None, "it must be a number that is not below 0"


def _length(value: Any) -> tuple[Any, str | None]:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1 << 30:
        return value, None
    return None, "it must be a whole number of characters"


_READERS = {
    "pattern": _text,
    "schema": _schema,
    "tolerance": _tolerance,
    "language": _text,
    "minLength": _length,
    "maxLength": _length,
}
