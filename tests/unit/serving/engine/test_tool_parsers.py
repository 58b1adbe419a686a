"""The parser of calls that a template is found to be written for reads what the template writes."""

from __future__ import annotations

import json

import pytest
from tests.unit.trainer.tiny_model import make_tokenizer
from tests.unit.trainer.tokens.test_answer_markup import CALLS, MARKS, calling

from slipway_trainer.tokens import answer_markup

pytest.importorskip("vllm")


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_the_template_writes_is_read_by_the_parser_that_was_found(name: str) -> None:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.parser import ParserManager

    words = make_tokenizer()
    words.add_tokens(list(MARKS))
    own, (_, end) = calling(name), CALLS[name]
    found = answer_markup.tool_parser_of(own, words.get_vocab())
    assert found == name
    made = ParserManager.get_parser(tool_parser_name=found, enable_auto_tools=True, tokenizer=words)
    assert made is not None
    request = ChatCompletionRequest(
        model="tiny", messages=[{"role": "user", "content": "Who?"}], tools=[answer_markup.TOOL]
    )
    said = answer_markup.call_text(own).removesuffix(end)
    _, content, calls = made(words, request.tools).parse(said, request, enable_auto_tools=True)
    assert not (content or "").strip()
    assert calls is not None
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        (answer_markup.CALL["name"], answer_markup.CALL["arguments"])
    ]
