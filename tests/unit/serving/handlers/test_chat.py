from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from slipway_serving.handlers import chat
from slipway_serving.http.refusal import Refusal


def asked(**fields: Any) -> chat.ChatRequest:
    return chat.parse(json.dumps(fields).encode())


def test_a_message_alone_is_a_request() -> None:
    request = asked(message="hi")
    assert (request.max_length, request.temperature, request.top_p, request.history, request.stream) == (
        100,
        0.7,
        None,
        [],
        False,
    )


def test_history_comes_before_the_message_and_top_p_only_when_given() -> None:
    history = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
    arguments = chat.completion_arguments(asked(message="m", history=history, temperature=0), "tiny", 1024)
    assert arguments == {
        "model": "tiny",
        "messages": [*history, {"role": "user", "content": "m"}],
        "max_tokens": 100,
        "temperature": 0,
        "stream": False,
    }
    streamed = chat.completion_arguments(asked(message="m", top_p=0.5, stream=True), "tiny", 1024)
    assert streamed["top_p"] == 0.5
    assert streamed["stream_options"] == {"include_usage": True}


def test_the_default_length_gives_way_to_a_lower_limit_of_the_server() -> None:
    assert chat.completion_arguments(asked(message="m"), "tiny", 64)["max_tokens"] == 64


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({}, "message", "is missing"),
        ({"message": ""}, "message", "at least 1"),
        ({"message": 5}, "message", "string"),
        ({"message": None}, "message", "string"),
        ({"message": "m", "max_length": 0}, "max_length", "greater than or equal to 1"),
        ({"message": "m", "max_length": "5"}, "max_length", "integer"),
        ({"message": "m", "max_length": 1.5}, "max_length", "integer"),
        ({"message": "m", "max_length": True}, "max_length", "integer"),
        ({"message": "m", "temperature": -0.1}, "temperature", "greater than or equal to 0"),
        ({"message": "m", "temperature": "hot"}, "temperature", "number"),
        ({"message": "m", "temperature": float("nan")}, "temperature", "2"),
        ({"message": "m", "top_p": 0}, "top_p", "greater than 0"),
        ({"message": "m", "stream": "yes"}, "stream", "boolean"),
        ({"message": "m", "history": {}}, "history", "array"),
        ({"message": "m", "history": [{"role": "bot", "content": "x"}]}, "history.0.role", "assistant"),
        ({"message": "m", "history": [{"role": "user"}]}, "history.0.content", "is missing"),
        ({"message": "m", "history": [{"role": "user", "content": "x", "name": "n"}]}, "history.0.name", "unknown"),
        ({"mesage": "m"}, "mesage", "unknown field; known are message, max_length"),
    ],
)
def test_a_wrong_field_is_named_with_422(fields: dict[str, Any], name: str, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        asked(**fields)
    assert (caught.value.status, caught.value.param) == (422, name)
    assert caught.value.message.startswith(f"{name}: ")
    assert words in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"message": "\\ud800"}', b'{"message": "\xff"}'])
def test_a_body_that_is_no_object_of_text_is_422(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        chat.parse(body)
    assert caught.value.status == 422


def chunk(content: str | None = None, finish: str | None = None, usage: dict[str, int] | None = None) -> str:
    choices = [] if usage else [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]
    return f"data: {json.dumps({'model': 'tiny', 'choices': choices, 'usage': usage})}\n\n"


def events(*chunks: str) -> list[Any]:
    async def given() -> AsyncIterator[str]:
        for one in chunks:
            yield one

    async def collect() -> list[str]:
        return [event async for event in chat.events(given())]

    lines = asyncio.run(collect())
    assert all(line.startswith("data: ") and line.endswith("\n\n") for line in lines)
    assert lines[-1] == "data: [DONE]\n\n"
    return [json.loads(line[6:]) for line in lines[:-1]]


@pytest.mark.parametrize(
    ("message", "field", "told"),
    [
        ("no (parameter=max_tokens, value=9)", "max_tokens", ("no (parameter=max_length, value=9)", "max_length")),
        ("no (parameter=max_tokens)", None, ("no (parameter=max_length)", None)),
        ("The messages do not fit", "input_text", ("The messages do not fit", "input_text")),
        ("no", None, ("no", None)),
    ],
)
def test_an_error_names_the_field_that_the_client_sent(
    message: str, field: str | None, told: tuple[str, str | None]
) -> None:
    assert chat.in_our_words(message, field) == told


def test_a_stream_is_deltas_then_reason_and_usage() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert events(
        chunk(""), chunk("床"), chunk("前", "stop"), ": ping\n\n", chunk(usage=usage), "data: [DONE]\n\n"
    ) == [
        {"delta": "床"},
        {"delta": "前"},
        {"finish_reason": "stop", "model": "tiny", "usage": usage},
    ]


def test_an_error_in_a_stream_is_passed_on_and_ends_it() -> None:
    error = {"error": {"message": "engine", "code": 500}}
    assert events(chunk("a"), f"data: {json.dumps(error)}\n\n", chunk("b")) == [{"delta": "a"}, error]


def test_what_a_model_thinks_is_apart_from_its_answer() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    whole = {"model": "tiny", "usage": usage}
    choice: dict[str, Any] = {"message": {"content": "hi", "reasoning": "so"}, "finish_reason": "stop"}
    told = chat.response({**whole, "choices": [choice]})
    assert (told["response"], told["reasoning"]) == ("hi", "so")
    unfinished = {**choice, "message": {"content": None, "reasoning": "so"}}
    assert chat.response({**whole, "choices": [unfinished]})["response"] == ""
    plain = {**choice, "message": {"content": "hi", "reasoning": None}}
    assert "reasoning" not in chat.response({**whole, "choices": [plain]})

    thought = {"model": "tiny", "choices": [{"index": 0, "delta": {"reasoning": "so"}, "finish_reason": None}]}
    assert events(f"data: {json.dumps(thought)}\n\n", chunk("hi")) == [{"reasoning": "so"}, {"delta": "hi"}]
