"""Messages that hold control tokens, where the engine cannot make them text: they are refused before it is asked."""

from __future__ import annotations

import json
from typing import Any

from slipway_core.protocol.control_tokens import ControlTokens, NotQuotable
from slipway_serving.http.refusal import Refusal

# What of the bodies of all routes becomes a part of a conversation.
_SPOKEN = (
    "message",
    "history",
    "messages",
    "input",
    "instructions",
    "system",
    "tools",
    "documents",
    "chat_template_kwargs",
)


def check(body: bytes, control: ControlTokens, status: int) -> None:
    """Raises Refusal with `status` that names the field and the token. What is no JSON object is left to the engine."""
    try:
        fields = json.loads(body)
    except ValueError:
        return
    for name in _SPOKEN if isinstance(fields, dict) else ():
        value = fields.get(name)
        parts = enumerate(value) if isinstance(value, list) else [(None, value)]
        for at, part in parts:
            if (token := _token(part, control)) is not None:
                field = name if at is None else f"{name}.{at}"
                message = (
                    f"{field}: it holds {token}, which controls this model and which its engine cannot take as text. "
                    "Take it out, or write it otherwise."
                )
                raise Refusal(status, "control_token", message, param=field)


def _token(value: Any, control: ControlTokens) -> str | None:
    try:
        found = control.quote([], _opened(value))
    except NotQuotable as error:
        return str(error)
    return None if found is None else found.first.rpartition(" holds ")[2]


def _opened(value: Any) -> Any:
    """Returns a value with what its JSON texts say beside them: the arguments of a call are read before they are
    rendered, and JSON has more than one way to write a character."""
    match value:
        case dict():
            return {name: _opened(inner) for name, inner in value.items()}
        case list():
            return [_opened(inner) for inner in value]
        case str() if value.lstrip()[:1] in ("{", "["):
            try:
                return [value, json.loads(value)]
            except (ValueError, RecursionError):
                return value
        case _:
            return value
