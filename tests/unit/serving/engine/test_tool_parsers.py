"""The parser of calls that a template is found to be written for reads what the template writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.trainer.tiny_model import make_tokenizer
from tests.unit.trainer.tokens.test_answer_markup import CALLS, MARKS, calling

from slipway_trainer.tokens import answer_markup, tokenizer

pytest.importorskip("vllm")


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_the_template_writes_is_read_by_the_parser_that_was_found(name: str) -> None:
    words = make_tokenizer()
    words.add_tokens(list(MARKS))
    own, (_, end) = calling(name), CALLS[name]
    assert answer_markup.tool_parser_of(own, words.get_vocab()) == name
    read(words, name, answer_markup.call_text(own).removesuffix(end), said="")


@pytest.mark.parametrize("said", ["", "I look it up."])
def test_calls_that_our_template_writes_are_read_and_what_is_said_before_them_comes_back_as_it_was(said: str) -> None:
    words = make_tokenizer()
    own = tokenizer.renderer(words)
    found = answer_markup.tool_parser_of(own, words.get_vocab())
    assert found == "hermes"
    asked = [{"role": "user", "content": "Who?"}]
    call = {"type": "function", "function": answer_markup.CALL}

    def rendered(content: str) -> str:
        return own.text([*asked, {"role": "assistant", "content": content, "tool_calls": [call, call]}])

    prompt, whole = own.text(asked, add_generation_prompt=True), rendered(said)
    content = read(words, found, whole.removeprefix(prompt).removesuffix("<|im_end|>\n"), said=said, calls=2)
    # The client sends back what it was given.
    assert rendered(content) == whole


def read(words: Any, name: str, answer: str, *, said: str, calls: int = 1) -> str:
    """Asserts that vLLM's parser reads words and calls out of an answer. Returns the words as a client gets them."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.parser import ParserManager

    made = ParserManager.get_parser(tool_parser_name=name, enable_auto_tools=True, tokenizer=words)
    assert made is not None
    request = ChatCompletionRequest(
        model="tiny", messages=[{"role": "user", "content": "Who?"}], tools=[answer_markup.TOOL]
    )
    _, content, found = made(words, request.tools).parse(answer, request, enable_auto_tools=True)
    assert (content or "").strip() == said
    assert found is not None
    assert [(call.name, json.loads(call.arguments)) for call in found] == [
        (answer_markup.CALL["name"], answer_markup.CALL["arguments"])
    ] * calls
    return content or ""
