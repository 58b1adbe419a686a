"""A model is not praised for text that its tokenizer does not read."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.trainer.tiny_model import make_exported
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from slipway_trainer.data.formats.turns import Turn
from slipway_trainer.data.rows import Conversation
from slipway_trainer.data.scored_conversations import Spoken
from slipway_trainer.evaluation import conversations, lost_text, perplexity

ENGLISH = "It was a dark and stormy night; the rain fell in torrents."
CHINESE = "清晨入古寺，初日照高林。曲径通幽处，禅房花木深。"


def _by_letters(letters: str, *steps: normalizers.Normalizer) -> PreTrainedTokenizerFast:
    """A tokenizer that has these letters alone."""
    words = {word: place for place, word in enumerate(["<unk>", "</s>", *dict.fromkeys(letters)])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence(list(steps))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (_by_letters(ENGLISH), ENGLISH, 0),
        (_by_letters(ENGLISH), CHINESE, 1),
        (_by_letters(ENGLISH), "rain雨", 0.2),
        (_by_letters("a", normalizers.Replace(Regex("."), "a")), CHINESE, 1),
        (_by_letters(ENGLISH.lower(), normalizers.Lowercase()), ENGLISH, 0),
        (_by_letters("cafe", normalizers.NFD(), normalizers.StripAccents()), "café", 0),
        (_by_letters("1/2", normalizers.NFKC()), "１/２", 0),
        (_by_letters(ENGLISH), "", 0),
    ],
)
def test_what_is_lost_is_counted(words: PreTrainedTokenizerFast, text: str, expected: float) -> None:
    lost, every = lost_text.of_texts(words, [text], perplexity.encode(words, [text]))
    assert lost[0] == pytest.approx(expected * every[0])


def test_a_figure_of_text_that_the_tokenizer_does_not_read_is_none() -> None:
    exported, words = make_exported(), _by_letters(ENGLISH)
    found = perplexity.score(exported.model, words, [ENGLISH, CHINESE, CHINESE])
    metrics, missing = found.figures
    assert (metrics, found.observed) == ({}, {})
    assert "loses 51% of the characters" in missing["bits_per_byte"]
    # Of the one that it reads there is one.
    assert found.of(np.array([True, False, False])).figures[1] == {}


def test_nor_is_one_of_answers() -> None:
    exported = make_exported()
    turns = (Turn("user", "?", learned=False), Turn("assistant", CHINESE))
    words = exported.tokenizer
    spoken = [Spoken(Conversation(1, turns), "a.jsonl:1")]
    assert conversations.score(exported, spoken).figures[1] == {}
    words.backend_tokenizer.normalizer = normalizers.Replace(Regex("\\p{Han}"), "a")
    assert "of the characters" in conversations.score(exported, spoken).figures[1]["chat_bits_per_byte"]
