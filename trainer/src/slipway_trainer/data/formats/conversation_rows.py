"""From a row of any form to the conversation that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from slipway_trainer.data.bad_row import BadRow, shown, string
from slipway_trainer.data.formats import turns
from slipway_trainer.data.formats.row_format import CONVERSATION_FIELDS, Format
from slipway_trainer.data.formats.turns import Turn


@dataclass(frozen=True)
class Spoken:
    turns: tuple[Turn, ...]
    tools: str | None = None
    """What the assistant may call, as a template is given it, as a JSON list."""
    unused: frozenset[str] = frozenset()
    """Fields of the tools that no template is given."""


def spoken(row: Mapping[str, Any], form: Format) -> Spoken:
    """Returns the conversation of a row. Raises BadRow; KeyError names a field that the row has not, or null in it."""
    match form:
        case "Messages" | "ShareGPT":
            name, value = _conversation(row)
            own = turns.of_speakers(value, name) if form == "ShareGPT" else turns.of_messages(value, name)
            return Spoken(turns.with_system(own, row.get("system")), *turns.tools_of(row.get("tools")))
        case "Alpaca" | "Dolly":
            answer = _said(row, "output" if form == "Alpaca" else "response", "assistant")
            own = (*_history(row.get("history")), Turn("user", _instruction(row)), answer)
        case "PromptCompletion":
            own = _prompt_and_completion(row)
        case "QuestionAnswer":
            own = (_said(row, "question", "user"), _said(row, "answer", "assistant"))
        case "UserAssistant":
            own = (_said(row, "user", "user"), _said(row, "assistant", "assistant"))
        case "Text" | "Preference" | "Prompt":
            raise AssertionError(f"{form} is no conversation")
    return Spoken(turns.with_system(own, row.get("system")), *turns.tools_of(row.get("tools")))


def required(row: Mapping[str, Any], name: str) -> Any:
    """Returns a field that must say something. Raises KeyError that names it."""
    value = row.get(name)
    if value is None:
        raise KeyError(name)
    return value


def filled(row: Mapping[str, Any], name: str) -> str:
    """Returns a text that must say something. Raises BadRow, and KeyError."""
    value = string(required(row, name), name)
    if not value.strip():
        raise BadRow(f"the field {name} is empty, or white space alone. Fill it in, or remove the row")
    return value


def _conversation(row: Mapping[str, Any]) -> tuple[str, Any]:
    found = [name for name in CONVERSATION_FIELDS if row.get(name) is not None]
    if len(found) > 1:
        raise BadRow(f"two conversations: {' and '.join(found)}. Keep one of them, or say columns: {{messages: …}}")
    if not found:
        raise KeyError(next((name for name in CONVERSATION_FIELDS if name in row), CONVERSATION_FIELDS[0]))
    return found[0], row[found[0]]


def _said(row: Mapping[str, Any], name: str, role: turns.Role) -> Turn:
    return Turn(role, filled(row, name))


def _instruction(row: Mapping[str, Any]) -> str:
    """The input, or the context, stands below the instruction, after an empty line."""
    instruction = filled(row, "instruction")
    told = [name for name in ("input", "context") if row.get(name) not in (None, "")]
    if len(told) > 1:
        raise BadRow(
            "input and context both say something, and one of them stands below the instruction. Leave the other one "
            "out"
        )
    return "\n\n".join([instruction, *(string(row[name], name) for name in told)])


def _history(value: Any) -> tuple[Turn, ...]:
    found: list[Turn] = []
    if value in (None, []):
        return ()
    if not isinstance(value, list):
        raise BadRow(f"history is {shown(value)}; it must be a list of pairs of a question and its answer")
    for number, pair in enumerate(cast(list[Any], value), 1):
        if not isinstance(pair, list) or len(cast(list[Any], pair)) != 2:
            raise BadRow(f"pair {number} of history is {shown(pair)}; it must be a question and its answer")
        for role, text in zip(("user", "assistant"), cast(list[Any], pair), strict=True):
            said = string(text, f"the {role}'s part of pair {number} of history")
            if not said.strip():
                raise BadRow(f"the {role}'s part of pair {number} of history is empty. Fill it in, or remove the row")
            found.append(Turn(cast(turns.Role, role), said))
    return tuple(found)


def _prompt_and_completion(row: Mapping[str, Any]) -> tuple[Turn, ...]:
    """What stands in the prompt is seen and not learned, whoever says it."""
    prompt, completion = required(row, "prompt"), required(row, "completion")
    if isinstance(prompt, list) != isinstance(completion, list):
        raise BadRow("prompt and completion must both be strings, or both lists of messages")
    if not isinstance(prompt, list):
        return (Turn("user", filled(row, "prompt")), Turn("assistant", filled(row, "completion")))
    return (*turns.seen(turns.of_messages(prompt, "prompt")), *turns.of_messages(completion, "completion"))
