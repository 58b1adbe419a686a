"""A tokenizer that llama.cpp would read another way is refused: nothing would tell that its tokens are others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.trainer.tiny_model import make_tokenizer, with_a_hole
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from slipway_trainer.step.errors import BadConfig
from slipway_trainer.tokens import gguf_vocabulary
from slipway_trainer.tokens.gguf_vocabulary import TokenType

ByteLevel, Sequence = pre_tokenizers.ByteLevel, pre_tokenizers.Sequence
OTHER = Sequence([pre_tokenizers.Split(Regex(r"\w+"), "isolated"), ByteLevel(False, use_regex=False)])


def name_of(words: PreTrainedTokenizerFast) -> str:
    return gguf_vocabulary.of_tokenizer(words, len(words), None).pre_tokenizer


def changed(**model: Any) -> PreTrainedTokenizerFast:
    words = make_tokenizer()
    document = json.loads(words.backend_tokenizer.to_str())
    document["model"] |= model
    return PreTrainedTokenizerFast(tokenizer_object=Backend.from_str(json.dumps(document)), eos_token="</s>")


def test_each_way_to_split_that_llama_cpp_knows_has_its_name() -> None:
    words = make_tokenizer()
    assert name_of(words) == "gpt-2"
    words.backend_tokenizer.pre_tokenizer = Sequence([pre_tokenizers.Digits(True), ByteLevel(False)])
    assert name_of(words) == "smollm"
    words.backend_tokenizer.normalizer = normalizers.NFC()
    assert name_of(words) == "smollm"


@pytest.mark.parametrize(
    "pre_tokenizer", [OTHER, ByteLevel(True), Sequence([pre_tokenizers.Digits(False), ByteLevel(False)])]
)
def test_another_way_is_refused(pre_tokenizer: Any) -> None:
    words = make_tokenizer()
    words.backend_tokenizer.pre_tokenizer = pre_tokenizer
    with pytest.raises(
        BadConfig, match=r"^export\.gguf: the tokenizer splits texts in a way that llama\.cpp has no name"
    ):
        name_of(words)


def test_a_normalizer_and_words_that_are_taken_before_merges_are_refused() -> None:
    words = make_tokenizer()
    words.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(BadConfig, match="has no name for"):
        name_of(words)
    with pytest.raises(BadConfig, match="has no name for"):
        name_of(changed(ignore_merges=True))


def test_a_vocabulary_that_is_not_of_bytes_is_refused() -> None:
    words = changed(byte_fallback=True)
    with pytest.raises(BadConfig, match="is no byte-level BPE"):
        name_of(words)
    words = make_tokenizer()
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    with pytest.raises(BadConfig, match="is no byte-level BPE"):
        name_of(words)


def test_a_token_that_takes_the_space_around_it_is_refused() -> None:
    words = make_tokenizer()
    words.add_tokens([AddedToken("<mask>", lstrip=True)])
    with pytest.raises(BadConfig, match=r"the token '<mask>' takes the white space around it"):
        name_of(words)


def test_rows_that_no_token_has_are_unused() -> None:
    words = with_a_hole(make_tokenizer(), id_=410)
    found = gguf_vocabulary.of_tokenizer(words, 448, words.convert_tokens_to_ids("<|im_end|>"))
    assert len(found.tokens) == len(found.types) == 448
    assert found.tokens[409] == "[PAD409]"
    assert found.types[409] is TokenType.UNUSED
    assert found.types[410] is TokenType.NORMAL
