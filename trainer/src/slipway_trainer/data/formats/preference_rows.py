"""Rows of preferences: a prompt, the answer that is to be preferred, and the one that is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from slipway_trainer.data.bad_row import BadRow
from slipway_trainer.data.formats import turns
from slipway_trainer.data.formats.conversation_rows import filled, required
from slipway_trainer.data.formats.turns import Turn


@dataclass(frozen=True)
class Preference:
    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]


def preference(row: Mapping[str, Any]) -> Preference:
    """Returns what a row prefers to what. Without a prompt of its own, that is how the two conversations begin.

    Raises BadRow; KeyError names a field that the row has not.
    """
    chosen, rejected = (_turns(row, name) for name in ("chosen", "rejected"))
    if row.get("prompt") is not None:
        prompt = _turns(row, "prompt", role="user")
    else:
        same = 0
        while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
            same += 1
        prompt, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
        if not prompt:
            raise BadRow("chosen and rejected have no beginning in common and there is no prompt. Give the row one")
    if chosen == rejected or not (chosen and rejected):
        raise BadRow("chosen and rejected say the same. Remove the row")
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if answer[-1].role != "assistant":
            raise BadRow(f"{name} does not end with the assistant's turn")
    return Preference(turns.seen(prompt), chosen, rejected)


def _turns(row: Mapping[str, Any], name: str, *, role: turns.Role = "assistant") -> tuple[Turn, ...]:
    value = required(row, name)
    return turns.of_messages(cast(Any, value), name) if isinstance(value, list) else (Turn(role, filled(row, name)),)
