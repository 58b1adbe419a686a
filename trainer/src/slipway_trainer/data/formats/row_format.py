"""Which form the rows of a file have, told from the fields of a row. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from slipway_core.resources.data import ConversationForm, RowForm

Format = Literal[RowForm, "Prompt"]
Use = Literal["CausalLM", "Chat", "Preference", "HeldOut", "Prompts"]
"""What rows are read for: the objective of a stage, evaluation.data, or evaluation.prompts."""

CONVERSATION_FIELDS = ("messages", "conversations")
REQUIRED: dict[Format, tuple[str, ...]] = {
    "Text": ("text",),
    "Messages": (),
    "ShareGPT": (),
    "Alpaca": ("instruction", "output"),
    "Dolly": ("instruction", "response"),
    "PromptCompletion": ("prompt", "completion"),
    "QuestionAnswer": ("question", "answer"),
    "UserAssistant": ("user", "assistant"),
    "Preference": ("chosen", "rejected"),
    "Prompt": ("prompt",),
}
"""Fields that every row has. A conversation stands in one of CONVERSATION_FIELDS."""
OPTIONAL: dict[Format, tuple[str, ...]] = {
    "Text": (),
    "Messages": ("system", "tools", "answer", "answers"),
    "ShareGPT": ("system", "tools", "answer", "answers"),
    "Alpaca": ("input", "context", "system", "history"),
    "Dolly": ("input", "context", "system", "history"),
    "PromptCompletion": ("system", "tools"),
    "QuestionAnswer": ("system",),
    "UserAssistant": ("system",),
    "Preference": ("prompt", *CONVERSATION_FIELDS, "system", "tools"),
    "Prompt": ("answer", "answers", "system"),
}
ALLOWED: dict[Use, tuple[Format, ...]] = {
    "CausalLM": ("Text", "PromptCompletion"),
    "Chat": get_args(ConversationForm),
    "Preference": ("Preference",),
    "HeldOut": ("Text", *get_args(ConversationForm)),
    "Prompts": ("Prompt", *get_args(ConversationForm)),
}
"""What can be used as what."""
COLUMNS = tuple(
    dict.fromkeys(
        [*CONVERSATION_FIELDS, *(name for fields in (REQUIRED, OPTIONAL) for own in fields.values() for name in own)]
    )
)
"""Every field that some form has."""


def of_row(row: Mapping[str, Any]) -> tuple[Format, ...]:
    """Returns the forms that a row may have: by the fields that say something, else by those that are there."""
    given = {name: value for name, value in row.items() if value is not None}
    return _of_fields(given) or _of_fields(row)


def has_form(row: Mapping[str, Any], form: Format) -> bool:
    """Whether a row has what the rows of a form have, whatever else it may be."""
    if REQUIRED[form]:
        return all(row.get(name) is not None for name in REQUIRED[form])
    speaks = any(row.get(name) is not None for name in CONVERSATION_FIELDS)
    return speaks and _has_speakers(row) == (form == "ShareGPT")


def fields(form: Format) -> tuple[str, ...]:
    """Returns what of a row is used that has this form."""
    own = CONVERSATION_FIELDS if form in ("Messages", "ShareGPT") else ()
    return (*own, *REQUIRED[form], *OPTIONAL[form])


def named_by(columns: Mapping[str, str]) -> tuple[Format, ...]:
    """Returns the forms that have all of these fields of ours, which a source says to stand in other columns."""
    asked = {name for name in columns if name != "system"}
    return tuple(form for form in get_args(Format) if asked <= set(fields(form)))


def _of_fields(row: Mapping[str, Any]) -> tuple[Format, ...]:
    found: list[Format] = []
    if any(name in row for name in CONVERSATION_FIELDS):
        found.append("ShareGPT" if _has_speakers(row) else "Messages")
    for form in get_args(Format):
        required = REQUIRED[form]
        if required and all(name in row for name in required):
            found.append(form)
    if "Prompt" in found and ("completion" in row or "chosen" in row):
        found.remove("Prompt")
    if "Preference" in found:
        # The conversation is its prompt: alone it would be learned without the answers.
        return tuple(form for form in found if form not in ("Messages", "ShareGPT"))
    return tuple(found)


def _has_speakers(row: Mapping[str, Any]) -> bool:
    """Whether the turns of a conversation say `from` and not `role`."""
    turns = next((row[name] for name in CONVERSATION_FIELDS if row.get(name) is not None), None)
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, dict) and "role" not in first and "from" in first
