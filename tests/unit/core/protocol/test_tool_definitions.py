"""A tool is put to a template in one form, however it was said; what no server could be given is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_core.protocol.tool_definitions import NotCallable, read

SCHEMA = {"required": ["b", "a"], "properties": {"b": {"type": "string", "default": None}, "a": {}}, "type": "object"}
FUNCTION = {"name": "add", "description": "Adds.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}


def form(*tools: Any) -> str:
    return json.dumps(read(tools).tools)


@given(st.permutations([*FUNCTION]), st.permutations([*TOOL]), st.booleans())
def test_the_order_of_fields_and_whether_a_function_is_wrapped_make_no_difference(
    fields: list[str], outer: list[str], wrapped: bool
) -> None:
    function = {name: FUNCTION[name] for name in fields}
    said = {name: {**TOOL, "function": function}[name] for name in outer}
    assert form(said if wrapped else function) == json.dumps([TOOL])


@pytest.mark.parametrize(
    "said",
    [
        {"function": {"name": "f"}},
        {"type": "function", "function": {"name": "f", "description": None, "parameters": None, "strict": None}},
        {"type": "function", "name": "f", "strict": False, "parameters": None},
        {"type": None, "function": None, "name": "f"},
        {"function": {"name": "f", "defer_loading": False}, "defer_loading": None},
    ],
)
def test_what_is_not_said_stands_nowhere(said: dict[str, Any]) -> None:
    found = read([said])
    assert json.dumps(found.tools) == '[{"type": "function", "function": {"name": "f"}}]'
    assert not found.unused


def test_an_empty_schema_and_an_empty_description_are_said() -> None:
    assert form({"name": "f", "description": "", "parameters": {}}) == (
        '[{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]'
    )


def test_fields_that_no_template_is_given_are_named_once() -> None:
    said = {"type": "function", "function": FUNCTION | {"strict": True, "returns": {}}, "id": "1"}
    found = read([said, said, FUNCTION | {"strict": True}])
    assert found.tools == [TOOL] * 3
    assert found.unused == {"function.strict", "function.returns", "id", "strict"}


@pytest.mark.parametrize(
    "said", [{"function": {"name": "f"}, "defer_loading": True}, {"defer_loading": True, "name": "f"}]
)
def test_a_tool_that_is_looked_for_later_says_so_in_its_function(said: dict[str, Any]) -> None:
    assert form(said) == '[{"type": "function", "function": {"name": "f", "defer_loading": true}}]'


def test_one_form_is_its_own_form() -> None:
    once = read([TOOL, {"name": "f", "defer_loading": True}]).tools
    assert read(once).tools == once


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("add", r'tool 2 is "add"; it must be \{"type": "function"'),
        ({}, r"tool 2 has no name: it is \{\}\. Give it the name"),
        ({"type": "function", "function": {"parameters": {}}}, r'tool 2 has no name: it is \{"parameters": \{\}\}'),
        ({"name": ""}, 'tool 2 has the name ""'),
        ({"name": 7}, "tool 2 has the name 7"),
        ({"function": "add"}, 'the function of tool 2 is "add"; it must be an object'),
        ({"type": "web_search"}, 'tool 2 has the type "web_search"; only functions are called'),
        ({"name": "f", "parameters": []}, r'the parameters of tool 2 \("f"\) are \[\]; they must be an object'),
        ({"name": "f", "parameters": "{}"}, r'the parameters of tool 2 \("f"\) are "\{\}"; they must be an object'),
        ({"name": "f", "description": ["a"]}, r'the description of tool 2 \("f"\) is \["a"\]; it must be a string'),
        ({"name": "f", "input_schema": {"type": "object"}}, r"has its parameters in input_schema\. Rename that"),
        ({"name": "f", "defer_loading": "no"}, r'defer_loading of tool 2 \("f"\) is "no"; it must be true or false'),
        ({"name": "f", "parameters": "x" * 90}, r'are "x{58}…; they'),
    ],
)  # fmt: skip
def test_what_no_server_could_be_given_is_refused_with_what_to_do(tool: Any, message: str) -> None:
    with pytest.raises(NotCallable, match=message):
        read([TOOL, tool])
