"""Columns of other names: what a source says of them, and what could be said where a file is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from slipway_trainer.data.bad_row import BadRow
from slipway_trainer.data.formats.row_format import ALLOWED, REQUIRED, Format, Use

_LIKE: dict[str, tuple[str, ...]] = {
    "text": ("content", "body", "article", "document", "passage", "raw_content", "story", "markdown", "code"),
    "system": ("system_prompt", "system_message"),
    "user": ("query", "question", "instruction", "human", "request", "input", "problem", "title"),
    "assistant": ("response", "reply", "answer", "output", "gpt", "solution", "target", "bot"),
    "prompt": ("query", "question", "instruction", "request", "input", "problem"),
    "chosen": ("preferred", "better", "accepted", "winner", "chosen_response", "response_chosen"),
    "rejected": ("dispreferred", "worse", "loser", "rejected_response", "response_rejected"),
    "messages": ("dialog", "dialogue", "chat", "turns", "conversation", "message"),
    "answer": ("reference", "target", "expected", "label", "gold", "output"),
}
"""What our fields are called elsewhere, the likeliest first."""
_MAY_BE_ABSENT = ("system", "answer", "answers", "slice", "cluster")
_OFFERED: dict[Use, tuple[tuple[str, ...], ...]] = {
    "CausalLM": (("text",),),
    "HeldOut": (("text",), ("messages",), ("user", "assistant")),
    "Chat": (("messages",), ("user", "assistant")),
    "Preference": (("prompt", "chosen", "rejected"),),
    "Prompts": (("prompt", "answer"), ("prompt",)),
}


def renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Returns a row with our names. Raises BadRow when it has not a column that the source names."""
    absent = [name for name, column in columns.items() if column not in row]
    if missing := next((name for name in absent if name not in _MAY_BE_ABSENT), None):
        raise BadRow(
            f"columns.{missing} names {columns[missing]!r}, which the row has not: it has {listed(row) or 'no field'}"
        )
    taken = set(columns.values())
    rest = {name: value for name, value in row.items() if name not in taken and name not in columns}
    return rest | {name: row[column] for name, column in columns.items() if name not in absent}


def suggestion(row: Mapping[str, Any], use: Use) -> dict[str, str] | None:
    """Returns the columns that a source could name, by our names, where those of a row are called like ours elsewhere
    and hold what ours do."""
    known = {name.casefold(): name for name in row}
    for fields in _OFFERED[use]:
        found: dict[str, str] = {}
        for field in fields:
            options = (field, *_LIKE[field])
            free = (known[name] for name in options if name in known and known[name] not in found.values())
            match = next((name for name in free if _may_be(field, row[name])), None)
            if match is None:
                break
            found[field] = match
        else:
            if "user" in found and (system := _system(row, known)):
                return {"system": system, **found}
            return found
    return None


def fields_of_texts(use: Use) -> tuple[str, ...]:
    """Returns the fields of ours that a table of texts has for a use."""
    return next(fields for fields in _OFFERED[use] if "messages" not in fields)


def _system(row: Mapping[str, Any], known: Mapping[str, str]) -> str | None:
    """Returns a column that says what a system turn would; none has to be named where it is called so."""
    there = (known[name] for name in _LIKE["system"] if name in known and "system" not in row)
    return next((name for name in there if _may_be("system", row[name])), None)


def _may_be(field: str, value: Any) -> bool:
    if field != "messages":
        return isinstance(value, str)
    turns = cast(list[Any], value) if isinstance(value, list) else []
    first = cast(dict[str, Any], turns[0]) if turns and isinstance(turns[0], dict) else {}
    return {"role", "content"} <= first.keys() or {"from", "value"} <= first.keys()


def listed(names: Iterable[str], most: int = 6) -> str:
    """Returns names as an error lists them."""
    return ", ".join(map(repr, list(names)[:most]))


def wanted(use: Use) -> str:
    """Returns what rows may look like, for somebody whose rows look otherwise."""
    shown = [_shape(form) for form in ALLOWED[use]]
    return ", ".join(dict.fromkeys(shown))


def _shape(form: Format) -> str:
    if form == "Messages":
        return '{"messages": [{"role", "content"}, …]}'
    if form == "ShareGPT":
        return '{"conversations": [{"from", "value"}, …]}'
    return "{" + ", ".join(f'"{name}"' for name in REQUIRED[form]) + "}"
