"""Turns of conversations, as they stand in rows and as chat templates are given them.

What a template gets is what the server would give it of the same conversation: tools in the server's form, arguments of
their calls as objects, parts of a content joined by line ends, the reasoning under each name that templates know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from slipway_core.protocol import tool_definitions
from slipway_trainer.data import json_row
from slipway_trainer.data.bad_row import BadRow, printable, shown, string

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = get_args(Role)
SPEAKERS: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_call": "assistant",
}
"""Who speaks in a row whose turns are {"from", "value"}."""
REASONING = ("reasoning_content", "reasoning", "thinking")
"""What the reasoning before an answer is called, in rows and in templates."""
_TEXT_OF_PART = ("text", "value")
_ELSEWHERE = {
    "reasoning": "reasoning_content",
    "thinking": "reasoning_content",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
}
"""Parts of a content that have a field of the turn."""

_DEEPEST = 128
"""Brackets around brackets, in what a call is given."""


@dataclass(frozen=True)
class ToolCall:
    name: str
    arguments: str
    """A JSON object, its keys in the order in which they stand in the row."""
    id: str | None = None

    def to_message(self) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": self.name, "arguments": json.loads(self.arguments)}}
        return {"id": self.id, **call} if self.id is not None else call


@dataclass(frozen=True)
class Turn:
    role: Role
    content: str
    learned: bool = True
    """Of an assistant's turn: whether it is learned, or only seen."""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def to_message(self) -> dict[str, Any]:
        """Returns what a chat template is given."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning is not None:
            message |= dict.fromkeys(REASONING, self.reasoning)
        if self.tool_calls:
            message["tool_calls"] = [call.to_message() for call in self.tool_calls]
        for name in ("tool_call_id", "name"):
            if (value := getattr(self, name)) is not None:
                message[name] = value
        return message

    @property
    def said(self) -> str:
        """All that it says, for comparing it with others."""
        calls = [f"{call.name} {call.arguments}" for call in self.tool_calls]
        return "\n".join(part for part in (self.reasoning, self.content, *calls) if part)


def of_messages(value: Any, what: str) -> tuple[Turn, ...]:
    """Returns the turns of a list of {"role", "content"}. Raises BadRow; `what` is the field, for the error."""
    if not isinstance(value, list) or not value:
        raise BadRow(f"{what} is {shown(value)}; it must be a list of turns")
    return tuple(_of_message(turn, number) for number, turn in enumerate(cast(list[Any], value), 1))


def of_speakers(value: Any, what: str) -> tuple[Turn, ...]:
    """Returns the turns of a list of {"from", "value"}. Raises BadRow."""
    if not isinstance(value, list) or not value:
        raise BadRow(f"{what} is {shown(value)}; it must be a list of turns")
    return tuple(_of_speaker(turn, number) for number, turn in enumerate(cast(list[Any], value), 1))


def with_system(turns: tuple[Turn, ...], system: Any) -> tuple[Turn, ...]:
    """Returns turns that begin with what the field `system` of their row says, if it says something. Raises BadRow."""
    if system in (None, ""):
        return turns
    content = string(system, "system")
    if not content.strip():
        raise BadRow("system is white space alone. Fill it in, or set it to null")
    if turns and turns[0].role in ("system", "developer"):
        raise BadRow("two system turns: the field system and the first turn. Leave one of them out")
    return (Turn("system", content), *turns)


def seen(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Returns turns of which nothing is learned."""
    return tuple(replace(turn, learned=False) for turn in turns)


def tools_of(value: Any) -> tuple[str | None, frozenset[str]]:
    """Returns the tools of a row as a template is given them, as a JSON list, and what of them is left out; None where
    there are none. They may stand there as JSON text.

    Raises BadRow.
    """
    found = _parsed(value, "tools") if isinstance(value, str) and value.strip() else value
    if found in (None, "", []):
        return None, frozenset()
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in cast(list[Any], found)):
        raise BadRow(f"tools is {shown(found)}; it must be a list of objects, or that as JSON text")
    try:
        read = tool_definitions.read(cast(list[Any], found))
    except tool_definitions.NotCallable as error:
        raise BadRow(printable(f"tools: {error}")) from None
    return _as_json(read.tools, "tools"), frozenset(f"tools.{name}" for name in read.unused)


def _of_message(turn: Any, number: int) -> Turn:
    if not isinstance(turn, dict) or "role" not in turn or not ("content" in turn or turn.get("tool_calls")):
        mixed = isinstance(turn, dict) and {"from", "value"} <= turn.keys()
        hint = " as in the first turn (rename from to role and value to content)" if mixed else ""
        raise BadRow(f'turn {number} is {shown(turn)}; it must be {{"role", "content"}}{hint}')
    fields = cast(dict[str, Any], turn)
    if fields["role"] not in ROLES:
        raise BadRow(f"turn {number} has the unknown role {shown(fields['role'])}; use {', '.join(ROLES)}")
    role = cast(Role, fields["role"])
    what = f"turn {number} ({role})"
    if len(fields) == 2 and isinstance(fields.get("content"), str):
        # Most turns say nothing else, and there are very many of them.
        plain = Turn(role, string(fields["content"], f"the content of {what}"))
        _refuse_empty(plain, number)
        return plain
    calls = _calls(fields.get("tool_calls"), what)
    if calls and role != "assistant":
        raise BadRow(f"tool_calls of {what}: only the assistant calls tools")
    found = Turn(
        role,
        _content(fields.get("content"), what, needed=not calls),
        learned=_is_learned(fields),
        reasoning=_reasoning(fields, what),
        tool_calls=calls,
        tool_call_id=_named(fields, "tool_call_id", what),
        name=_named(fields, "name", what),
    )
    _refuse_empty(found, number)
    return found


def _of_speaker(turn: Any, number: int) -> Turn:
    if not isinstance(turn, dict) or not {"from", "value"} <= turn.keys():
        raise BadRow(f'turn {number} is {shown(turn)}; it must be {{"from", "value"}} as in the first turn')
    fields = cast(dict[str, Any], turn)
    speaker = fields["from"]
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise BadRow(f"turn {number} is from {shown(speaker)}, whom nobody knows; use {', '.join(SPEAKERS)}")
    role = SPEAKERS[speaker]
    if speaker == "function_call":
        call = _parsed(string(fields["value"], f"the value of turn {number} (function_call)"), f"turn {number}")
        calls = cast(list[Any], call) if isinstance(call, list) else [call]
        return Turn(role, "", learned=_is_learned(fields), tool_calls=_calls(calls, f"turn {number} (function_call)"))
    found = Turn(role, string(fields["value"], f"the value of turn {number} ({speaker})"), learned=_is_learned(fields))
    _refuse_empty(found, number)
    return found


def _refuse_empty(turn: Turn, number: int) -> None:
    """A tool may answer with nothing, and an assistant may only call tools."""
    if not turn.content.strip() and not turn.tool_calls and turn.role != "tool":
        raise BadRow(f"turn {number} is an empty {turn.role} turn, or white space alone. Fill it in, or remove the row")


def _content(value: Any, what: str, *, needed: bool) -> str:
    if value is None and not needed:
        return ""
    if not isinstance(value, list):
        return string(value, f"the content of {what}")
    texts: list[str] = []
    for part in cast(list[Any], value):
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind in _ELSEWHERE:
            raise BadRow(
                f"the content of {what} has a part of type {shown(kind)}. Write it into {_ELSEWHERE[kind]} of the turn"
            )
        if kind != "text":
            shows = f"a part of type {shown(kind)}" if isinstance(kind, str) else shown(part)
            raise BadRow(
                f'the content of {what} has {shows}: models of text alone are trained. Parts are {{"type": "text", '
                '"text": …}; remove the row, or what is no text of it'
            )
        texts.append(_text_of(part, what))
    return "\n".join(texts)


def _text_of(part: Mapping[str, Any], what: str) -> str:
    name = next((name for name in _TEXT_OF_PART if name in part), None)
    if name is None:
        raise BadRow(f'a text part of {what} has no text: it is {shown(part)}. Parts are {{"type": "text", "text": …}}')
    return string(part[name], f"{name} of a text part of {what}")


def _is_learned(turn: Mapping[str, Any]) -> bool:
    """Amounts other than all and nothing are refused elsewhere (`unused_fields`)."""
    return turn.get("weight") != 0 and turn.get("train") is not False


def _reasoning(turn: Mapping[str, Any], what: str) -> str | None:
    found = {name: turn[name] for name in REASONING if turn.get(name) not in (None, "")}
    if not found:
        return None
    if len(set(map(str, found.values()))) > 1:
        raise BadRow(f"{what} has {' and '.join(found)}, which say different things. Keep one of them")
    name, value = next(iter(found.items()))
    if turn["role"] != "assistant":
        raise BadRow(f"{name} of {what}: only the assistant's turns have reasoning")
    return string(value, f"{name} of {what}")


def _named(turn: Mapping[str, Any], name: str, what: str) -> str | None:
    value = turn.get(name)
    return None if value in (None, "") else string(value, f"{name} of {what}")


def _calls(value: Any, what: str) -> tuple[ToolCall, ...]:
    if value in (None, []):
        return ()
    if not isinstance(value, list):
        raise BadRow(f"tool_calls of {what} is {shown(value)}; it must be a list")
    return tuple(_call(call, f"tool call {number} of {what}") for number, call in enumerate(cast(list[Any], value), 1))


def _call(call: Any, what: str) -> ToolCall:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise BadRow(f'{what} is {shown(call)}; it must be {{"function": {{"name", "arguments"}}}}')
    arguments: Any = function.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        arguments = _parsed(arguments, f"the arguments of {what}")
    if arguments in (None, ""):
        arguments = {}
    if not isinstance(arguments, dict):
        raise BadRow(f"the arguments of {what} are {shown(arguments)}; they must be an object, or that as JSON text")
    identity = call.get("id")
    return ToolCall(
        string(function["name"], f"the name of {what}"),
        _as_json(arguments, f"the arguments of {what}"),
        None if identity in (None, "") else string(identity, f"the id of {what}"),
    )


def _is_deep(value: Any) -> bool:
    """Whether brackets are nested deeper than a template and what it calls can follow: how deep that is depends on
    whoever calls, and what one process reads another one must read too."""
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        inner = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list | tuple)
        ]
        level = [part for own in inner for part in own]
        if not level:
            return False
    return True


def _parsed(text: str, what: str) -> Any:
    try:
        found = json_row.decoder(finite=True).decode(text)
        if _is_deep(found):
            raise RecursionError
        return found
    except json_row.RepeatedKey as error:
        raise BadRow(f"{what} has the key {shown(str(error))} twice in one object. Keep one of the two") from None
    except json_row.NoNumber as error:
        raise BadRow(_no_number(what, str(error))) from None
    except RecursionError:
        raise BadRow(f"{what} is {shown(text)}, whose brackets are nested too deeply") from None
    except ValueError:
        raise BadRow(f"{what} is {shown(text)}, which is no JSON. Write it as JSON, or remove the row") from None


def _as_json(value: Any, what: str) -> str:
    """Returns a value of a row as JSON. Raises BadRow where JSON cannot hold it, or no text."""
    if _is_deep(value):
        raise BadRow(f"{what} has brackets that are nested too deeply. Write what is in them as one string")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise BadRow(_no_number(what, "NaN or an infinity")) from None
    except TypeError:
        raise BadRow(
            f"{what} is {shown(value)}, and holds what would become a text: a number of thousands of digits, a decimal "
            "or a time of a table. Write it as a string, or as a number of fewer digits"
        ) from None
    return string(text, what)


def _no_number(what: str, value: str) -> str:
    return f"{what} has {value}, which JSON has not. Write null, or a string"
