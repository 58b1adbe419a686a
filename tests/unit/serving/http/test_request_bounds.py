"""What one request may ask: every refusal names the field, and what is left arrives unchanged."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest

from slipway_core.resources.judge import Judge
from slipway_serving.http.refusal import Refusal
from slipway_serving.http.request_bounds import Bounds, check
from slipway_trainer.evaluation.judge import questions
from slipway_trainer.evaluation.judge.api import Form

BOUNDS = Bounds(new_tokens=1024, answers=8, context=2048)
USER = {"role": "user", "content": "hi"}


def places(fields: Any) -> int:
    return check(json.dumps(fields).encode(), BOUNDS, 400)


def refusal(body: bytes | dict[str, Any], bounds: Bounds = BOUNDS) -> Refusal:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Refusal) as raised:
        check(content, bounds, 400)
    assert raised.value.status == 400
    raised.value.body()  # It can be sent.
    return raised.value


@pytest.mark.parametrize("field", ["max_tokens", "n"])
@pytest.mark.parametrize("value", [5000, 5000.0, "5000", " 5000 ", "5e3"])
def test_a_number_is_limited_however_it_is_written(field: str, value: Any) -> None:
    """vLLM's own models read "5000" as 5000."""
    assert refusal({"prompt": "x", field: value}).param == field


TOOLS = [{"type": "function", "function": {"name": "find_poet", "parameters": {}}}]


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": {"type": "any"}}])
def test_tools_of_which_no_call_is_read_are_refused_in_words_of_the_request(choice: dict[str, Any]) -> None:
    """vLLM says which of its options are to be set, and a client can set none."""
    silent = Bounds(new_tokens=1024, answers=8, context=2048, reads_calls=False)
    found = refusal({"messages": [USER], "tools": TOOLS, **choice}, silent)
    assert found.param == "tools"
    assert "tool_choice: none" in str(found)
    assert places({"messages": [USER], "tools": TOOLS, **choice}) == 1


@pytest.mark.parametrize(
    "fields", [{"tool_choice": "none"}, {"tool_choice": {"type": "none"}}, {"tools": []}, {"tools": None}]
)
def test_tools_that_are_not_to_be_called_are_left_to_the_model(fields: dict[str, Any]) -> None:
    silent = Bounds(new_tokens=1024, answers=8, context=2048, reads_calls=False)
    assert check(json.dumps({"messages": [USER], "tools": TOOLS, **fields}).encode(), silent, 400) == 1


def test_a_request_never_waits_for_more_places_than_there_are() -> None:
    assert check(json.dumps({"prompt": ["x", "y"], "n": 3.5}).encode(), Bounds(1024, 7, 2048), 400) == 7


@pytest.mark.parametrize("value", ["nan", "1e-9", -3])
def test_what_is_no_number_of_answers_is_one(value: Any) -> None:
    assert places({"prompt": "x", "n": value}) == 1


@pytest.mark.parametrize("value", [5, "5", None, True, "many", [], {}])
def test_the_rest_is_the_applications_to_judge(value: Any) -> None:
    assert places({"prompt": "x", "max_tokens": value}) == 1


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"prompt": "x"}, 1),
        ({"prompt": "x", "n": 3}, 3),
        ({"prompt": "x", "n": "3"}, 3),
        ({"prompt": "x", "n": 0}, 1),
        ({"prompt": ["x", "y"], "n": 4}, 8),
        ({"prompt": [1, 2, 3], "n": 2}, 2),
        ({"prompt": [[1], [2]], "n": 2}, 4),
        ({"prompt": "x", "n": 2, "best_of": 5}, 5),
        ({"messages": [USER]}, 1),
    ],
)
def test_a_request_takes_as_many_places_as_it_wants_answers(fields: dict[str, Any], answers: int) -> None:
    assert places(fields) == answers


def test_a_limit_above_the_context_is_the_context() -> None:
    found = refusal({"prompt": "x", "max_tokens": 600}, Bounds(new_tokens=1024, answers=8, context=512))
    assert found.message == "max_tokens: 600 is above this server's limit of 512 new tokens."


LAUGHS = "\n".join(f"a{number} ::= a{number + 1} a{number + 1} a{number + 1}" for number in range(40)) + '\na40 ::= "x"'
DOUBLED = {"$ref": "#/$defs/a0", "$defs": {"a30": {"type": "string"}}}
for level in range(30):
    DOUBLED["$defs"][f"a{level}"] = {"allOf": [{"$ref": f"#/$defs/a{level + 1}"}] * 2}  # type: ignore[index]
CONSTRAINTS = [
    ({"choice": [f"number {number}" for number in range(5000)]}, "structured_outputs.choice", "more than"),
    ({"choice": ["x" * 40_000]}, "structured_outputs", "bytes are more than"),
    ({"choice": ["a", 1]}, "structured_outputs.choice.1", "must be text"),
    ({"choice": "a"}, "structured_outputs.choice", "must be a list of texts"),
    ({"regex": 7}, "structured_outputs.regex", "must be text"),
    ({"grammar": LAUGHS}, "structured_outputs.grammar", "written out"),
    ({"grammar": LAUGHS.replace("::=", ":")}, "structured_outputs.grammar", "written out"),
    ({"grammar": "root ::= root"}, "structured_outputs.grammar", "no answer"),
    ({"json": {"$ref": "#"}}, "structured_outputs.json.$ref", "only itself"),
    ({"json": '{"$ref": "#"}'}, "structured_outputs.json.$ref", "only itself"),
    ({"json": {"minItems": 1_000_000}}, "structured_outputs.json", "items"),
    ({"json": {"allOf": [{"maxItems": 1000}] * 5}}, "structured_outputs.json.allOf.0", "items"),
    ({"json": '{"items": {"maxItems": 5000}}'}, "structured_outputs.json.items", "items"),
    ({"json": DOUBLED}, "structured_outputs.json", "written out"),
    ({"json": json.dumps(DOUBLED)}, "structured_outputs.json", "written out"),
    ({"json": 1}, "structured_outputs.json", "must be text or an object"),
    ({"jsn": {}}, "structured_outputs.jsn", "unknown field"),
    ([], "structured_outputs", "must be an object"),
    ("json", "structured_outputs", "must be an object"),
    (1, "structured_outputs", "must be an object"),
    (False, "structured_outputs", "must be an object"),
]


@pytest.mark.parametrize(("asked", "field", "words"), CONSTRAINTS)
def test_what_an_answer_must_look_like_is_bounded_before_the_engine_compiles_it(
    asked: Any, field: str, words: str
) -> None:
    found = refusal({"messages": [USER], "structured_outputs": asked})
    assert found.param == field
    assert words in found.message


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}, "response_format"),
        ({"response_format": {"json_schema": {"schema": {"anyOf": [{"maxItems": 10**9}] * 5}}}}, "response_format"),
        ({"response_format": {"a": "x" * 40_000}}, "response_format"),
        ({"text": {"format": {"schema": {"minItems": 10**9}}}}, "text"),
        ({"tools": [{"type": "function"}] * 200}, "tools"),
        ({"tools": [{"type": "function", "function": {"parameters": {"maxItems": 10**9}}}]}, "tools"),
        ({"bad_words": ["x"] * 200}, "bad_words"),
        ({"stop": ["x"] * 200}, "stop"),
        ({"top_k": 2**40}, "top_k"),
        ({"top_k": "1099511627776"}, "top_k"),
        ({"seed": 2**70}, "seed"),
        ({"temperature": 1e999}, "temperature"),
        ({"stop": "\ud800"}, "stop"),
        ({"messages": [{"role": "user", "content": "a\udfff"}]}, "messages.0.content"),
        ({"vllm_xargs": {"\ud800": 1}}, "vllm_xargs.?"),
        ({"background": True}, "background"),
        ({"messages": [USER] * 5000}, "messages"),
        ({"history": [USER] * 5000}, "history"),
        ({"logit_bias": {str(number): 1 for number in range(5000)}}, "logit_bias"),
        ({"prompt": [1] * 3000}, "prompt"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 5000}]}, "messages.0.content"),
    ],
)
def test_every_other_field_is_bounded_too(fields: dict[str, Any], field: str) -> None:
    content = json.dumps(fields).replace("Infinity", "1e999").encode()
    assert (refusal(content).param or "").startswith(field)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"temperature": NaN}', "NaN is no JSON number"),
        (b'{"temperature": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "nested more than 64 levels"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "values"),
        ('{"message": "hi"}'.encode("utf-16"), "not JSON in UTF-8"),
        (b'{"structured_outputs": {"choice": [' + b'"a,b",' * 100_000 + b'"a"]}}', "more than 20000 values"),
        (b"[" + b"0," * 1_000_000 + b"0]", "more than 20000 values"),
    ],
)
def test_what_no_field_has_is_told_of_the_body(body: bytes, words: str) -> None:
    assert words in refusal(body).message


@pytest.mark.parametrize(
    "fields",
    [
        {"message": "床前明月光，" * 100_000},
        {"message": "a,[{" * 250_000},
        {"messages": [USER] * 4000},
        {"prompt": [7] * 2048, "max_tokens": 8},
        {"prompt": "x", "stop": ["a", "b"], "seed": -1, "top_k": -1, "temperature": 0.7},
        {"message": "\U0001f600 \\ud800"},
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"structured_outputs": {"regex": r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}"}},
        {"structured_outputs": {"regex": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"}},
        {"structured_outputs": {"grammar": 'root ::= "a" root | "b"'}},
        {"structured_outputs": {"grammar": 'root ::= a b\na ::= "x" b a | "y"\nb ::= a b | "z"'}},
        {"structured_outputs": {"grammar": ""}},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"json": {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}}},
        {"structured_outputs": {"json": {"$ref": "#/none"}}},
        {"structured_outputs": {"json": {"properties": {"schema": {"$ref": "#"}}}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "person",
                    "schema": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "maxLength": 64, "description": "{1000} {2000}"},
                            "$ref": {"type": "string"},
                            "children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 3},
                        },
                    },
                },
            }
        },
        {"tools": [{"type": "function", "function": {"name": "f", "description": "{5000}", "parameters": {}}}]},
    ],
)
def test_what_is_reasonable_passes(fields: dict[str, Any]) -> None:
    assert places(fields) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [' + b'{"role":"user","content":"a"},' * 130_000 + b"{}]}",
        b'{"prompt": [' + b"1," * 1_900_000 + b"1]}",
        b'{"message": "' + b"a,[{" * 1_000_000 + b'"}',
        b'{"structured_outputs": {"choice": [' + b'"a,b",' * 600_000 + b'"a"]}}',
        b"[" * 4_000_000,
        b'"' + b"\\" * 4_000_000,
        b'"' * 4_000_000,
    ],
)
def test_the_largest_bodies_are_judged_within_a_moment(body: bytes) -> None:
    """They are judged on the event loop: nobody else is answered meanwhile. Quiet cores need a tenth of this."""
    assert len(body) <= 4 * 1024 * 1024
    begun = time.process_time()
    with contextlib.suppress(Refusal):
        check(body, BOUNDS, 400)
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize("scale", [10, 100])
def test_an_endpoint_may_be_the_judge_of_a_run(scale: int) -> None:
    """What evaluate puts to a judge is one request that is taken as it is."""
    judge = Judge(url="http://endpoint/v1", model="m", criteria="Be kind.", scale=scale)
    asked = questions.conversation([USER], None)
    for question in (
        questions.mark(judge, 0, asked, "an answer", of="candidate", repeat=0),
        questions.pair(judge, 0, asked, "one", "another", of="reference", repeat=0, swapped=False),
    ):
        assert places(Form().body(judge, question)) == 1
