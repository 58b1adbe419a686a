"""What no message may hold where vLLM renders a model's conversations in a way of its own."""

from types import SimpleNamespace

import pytest
from tests.unit.trainer.tiny_model import make_tokenizer
from tokenizers import AddedToken

pytest.importorskip("vllm")
TURNS = ["<｜User｜>", "<｜Assistant｜>"]


def test_tokens_that_begin_a_turn_are_refused_whatever_the_tokenizer_calls_them() -> None:
    from vllm.tokenizers.deepseek_v32 import get_deepseek_v32_tokenizer

    from slipway_serving.engine.chat_renderer import refused_tokens

    words = make_tokenizer()
    words.chat_template = None  # As the model comes: vLLM has its template in Python.
    words.add_tokens([AddedToken(token, special=False) for token in (*TURNS, "<think>", "</think>")])
    found = refused_tokens(SimpleNamespace(tokenizer=get_deepseek_v32_tokenizer(words)))
    assert found is not None
    assert {*TURNS, words.eos_token} <= {*found.special}
    assert "<think>" not in found.special


def test_a_tokenizer_that_renders_nothing_leaves_what_it_calls_special() -> None:
    from slipway_serving.engine.chat_renderer import refused_tokens

    words = make_tokenizer()
    words.chat_template = None
    found = refused_tokens(SimpleNamespace(tokenizer=words))
    assert found is not None
    assert {*found.special} == {*words.all_special_tokens}
