"""Rows of preferences: a prompt, the answer that is to be preferred, and the one that is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from slipway_trainer.data.bad_row import BadRow
from slipway_trainer.data.formats import turns
from slipway_trainer.data.formats.conversation_rows import filled, required
from slipway_trainer.data.formats.row_format import CONVERSATION_FIELDS
from slipway_trainer.data.formats.turns import Turn


@dataclass(frozen=True)
class Preference:
    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    tools: str | None = None
    """What the assistant may call, as a JSON list."""
    unused: frozenset[str] = frozenset()
    """Fields of the tools that no template is given."""


def preference(row: Mapping[str, Any]) -> Preference:
    """Returns what a row prefers to what. The prompt is a field of its own, a conversation, or how the two begin.

    Raises BadRow; KeyError names a field that the row has not.
    """
    chosen, rejected = (_turns(row, name) for name in ("chosen", "rejected"))
    if name := next((name for name in ("prompt", *CONVERSATION_FIELDS) if row.get(name) is not None), None):
        prompt = _turns(row, name, role="user")
        if all(answer[: len(prompt)] == prompt for answer in (chosen, rejected)):
            # Whole conversations, as some data sets have them beside their prompt.
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    else:
        same = 0
        while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
            same += 1
        prompt, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
        if not prompt and isinstance(row["chosen"], str) and isinstance(row["rejected"], str):
            raise BadRow(
                "chosen and rejected are texts, and there is no prompt that they answer. Put it into a field prompt, "
                'or write the turns of both as lists of {"role", "content"}'
            )
        if not prompt:
            raise BadRow("chosen and rejected have no beginning in common and there is no prompt. Give the row one")
    if chosen == rejected or not (chosen and rejected):
        raise BadRow("chosen and rejected say the same. Remove the row")
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if answer[-1].role != "assistant":
            raise BadRow(f"{name} does not end with the assistant's turn")
        if answer[0].role != "assistant":
            raise BadRow(f"{name} begins with the turn of {answer[0].role!r}; it is what is said after the prompt")
    return Preference(
        turns.seen(turns.with_system(prompt, row.get("system"))), chosen, rejected, *turns.tools_of(row.get("tools"))
    )


def _turns(row: Mapping[str, Any], name: str, *, role: turns.Role = "assistant") -> tuple[Turn, ...]:
    value = required(row, name)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return (Turn(role, filled(row, name)),)
    found = cast(list[Any], value)
    speaks = bool(found) and isinstance(found[0], dict) and "from" in found[0]
    return turns.of_speakers(found, name) if speaks else turns.of_messages(found, name)
