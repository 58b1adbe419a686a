"""Definitions of tools, as chat templates are given them.

Most templates write a definition into the prompt as JSON, just as they are given it, so that the order of its fields, a
null and a field that means nothing to the model all become tokens. vLLM gives a template its own models of a request,
with nulls for what was left out; a row of data has what somebody wrote. Training, evaluation and the server bring both
to one form by this module: the one in which OpenAI's clients send a definition, and models were trained on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

_SHOWN_CHARACTERS: Final = 60
_OF_TOOL: Final = frozenset(("type", "function", "defer_loading"))
_OF_FUNCTION: Final = frozenset(("name", "description", "parameters", "defer_loading"))
_PARAMETERS_ELSEWHERE: Final = ("input_schema", "inputSchema")
"""What other APIs call the parameters."""


class NotCallable(ValueError):
    """No server can be given this definition: which one, what is wrong with it, and what to do."""


@dataclass(frozen=True)
class Definitions:
    tools: list[dict[str, Any]]
    """Each {"type": "function", "function": {"name", "description", "parameters"}}, in this order, without what it does
    not say; `defer_loading` of the function last, where it is true. Parameters are as they were given."""
    unused: frozenset[str]
    """Fields that say something and are left out, as "function.strict"."""


def read(tools: Iterable[Any]) -> Definitions:
    """Returns definitions as templates are given them, of JSON values in one of the forms that clients and data have:
    {"type", "function": {…}}, or the function alone with the same fields.

    `strict` is left out too: it tells the server how to decode an answer, and the model nothing.

    Raises NotCallable.
    """
    found: list[dict[str, Any]] = []
    unused: set[str] = set()
    for number, tool in enumerate(tools, 1):
        found.append(_read(tool, f"tool {number}", unused))
    return Definitions(found, frozenset(unused))


def _read(tool: Any, what: str, unused: set[str]) -> dict[str, Any]:
    if not isinstance(tool, Mapping):
        raise NotCallable(f'{what} is {_shown(tool)}; it must be {{"type": "function", "function": {{"name", …}}}}')
    outer = cast(Mapping[str, Any], tool)
    if (kind := outer.get("type")) not in (None, "function"):
        raise NotCallable(f"{what} has the type {_shown(kind)}; only functions are called. Describe it as a function")
    wrapped = outer.get("function") is not None
    function: Any = outer["function"] if wrapped else outer
    if not isinstance(function, Mapping):
        raise NotCallable(f'the function of {what} is {_shown(function)}; it must be an object with a "name"')
    inner = cast(Mapping[str, Any], function)
    if wrapped:
        unused.update(_left_out(outer, _OF_TOOL, ""))
        unused.update(_left_out(inner, _OF_FUNCTION, "function."))
    else:
        unused.update(_left_out(outer, _OF_TOOL | _OF_FUNCTION, ""))
    deferred = [outer.get("defer_loading"), inner.get("defer_loading")]
    return {"type": "function", "function": _function(inner, what, next((x for x in deferred if x is not None), None))}


def _function(given: Mapping[str, Any], what: str, deferred: Any) -> dict[str, Any]:
    name, description = given.get("name"), given.get("description")
    parameters: Any = given.get("parameters")
    if not isinstance(name, str) or not name:
        has = f"the name {_shown(name)}" if "name" in given else f"no name: it is {_shown(given)}"
        raise NotCallable(f"{what} has {has}. Give it the name by which the assistant calls it")
    what = f"{what} ({_shown(name)})"
    if description is not None and not isinstance(description, str):
        raise NotCallable(f"the description of {what} is {_shown(description)}; it must be a string")
    if parameters is None and (other := next((name for name in _PARAMETERS_ELSEWHERE if given.get(name)), None)):
        raise NotCallable(f"{what} has its parameters in {other}. Rename that to parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise NotCallable(
            f"the parameters of {what} are {_shown(parameters)}; they must be an object, which is a JSON schema"
        )
    if deferred is not None and not isinstance(deferred, bool):
        raise NotCallable(f"defer_loading of {what} is {_shown(deferred)}; it must be true or false")
    said: dict[str, Any] = {
        "name": name,
        "description": description,
        "parameters": parameters,
        "defer_loading": deferred or None,
    }
    return {field: value for field, value in said.items() if value is not None}


def _left_out(given: Mapping[str, Any], used: frozenset[str], place: str) -> set[str]:
    """Null and false say nothing: data fills them in where others have more."""
    return {f"{place}{name}" for name, value in given.items() if name not in used and value not in (None, False)}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
