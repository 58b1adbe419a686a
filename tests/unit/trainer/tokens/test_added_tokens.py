"""Tokens that a run adds: one token each, words like any other, and refused where they are there already."""

import pytest
from tests.unit.trainer.tiny_model import make_tokenizer

from slipway_trainer.step.errors import BadConfig
from slipway_trainer.tokens import added_tokens, tokenizer


def test_they_are_one_token_each_and_are_shown() -> None:
    words = make_tokenizer()
    before = words("fox jumps", add_special_tokens=False)["input_ids"]
    added_tokens.add(words, ["<tool>", "</tool>"])
    ids = words("fox<tool>jumps</tool>", add_special_tokens=False)["input_ids"]
    new = added_tokens.ids(words, ["</tool>", "<tool>"])
    assert [token for token in ids if token in new] == new
    assert new == [len(words) - 2, len(words) - 1]
    assert words.decode(ids, skip_special_tokens=True) == "fox<tool>jumps</tool>"
    assert words("fox jumps", add_special_tokens=False)["input_ids"] == before


def test_nobody_needs_to_quote_them_in_a_turn() -> None:
    words = make_tokenizer()
    added_tokens.add(words, ["<tool>"])
    control = tokenizer.renderer(words).control
    assert control is not None
    assert "<tool>" not in control.special


@pytest.mark.parametrize("there", ["<|im_end|>", "a", "明月"])
def test_one_that_is_there_is_refused_by_name(there: str) -> None:
    words = make_tokenizer()
    with pytest.raises(BadConfig, match=rf"^model\.addTokens: '{there.replace('|', '.')}': the tokenizer has it"):
        added_tokens.add(words, ["<new>", there])
    assert "<new>" not in words.get_vocab(), "all or none"
