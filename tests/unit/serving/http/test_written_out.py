"""Messages with control tokens, for an engine that cannot make them text."""

import json

import pytest

from slipway_core.protocol.control_tokens import ControlTokens
from slipway_serving.http import written_out
from slipway_serving.http.refusal import Refusal

CONTROL = ControlTokens(special=("<|end|>",), turns=("<|end|>",))
ESCAPED = r'{"a": "\u003c|end|\u003e"}'


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": "a<|end|>"}, "message"),
        ({"message": "?", "history": [{"role": "user", "content": "<|end|>"}]}, "history.0"),
        ({"messages": [{"role": "user", "content": "?"}, {"role": "tool", "content": "<|end|>"}]}, "messages.1"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "<|end|>"}]}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"text": "<|e"}, {"text": "nd|>"}]}]}, "messages.0"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": ESCAPED}}]}]}, "messages.0"),
        ({"input": "<|end|>", "model": "a"}, "input"),
        ({"messages": [], "tools": [{"function": {"description": "<|end|>"}}]}, "tools.0"),
        ({"messages": [], "chat_template_kwargs": {"name": "<|end|>"}}, "chat_template_kwargs"),
    ],
)
def test_they_are_refused_by_field_and_token(body, field):
    with pytest.raises(Refusal) as refused:
        written_out.check(json.dumps(body).encode(), CONTROL, 400)
    assert (refused.value.status, refused.value.param) == (400, field)
    assert "<|end|>" in refused.value.message
    assert "take it out" in refused.value.message.lower()


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b'{"message": "a <|en d|>", "stop": ["<|end|>"], "prompt": "<|end|>"}', b'{"message": "{["}']
)
def test_anything_else_is_the_engines_to_judge(body):
    written_out.check(body, CONTROL, 400)
