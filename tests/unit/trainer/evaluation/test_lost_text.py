"""A model is not praised for text that its tokenizer does not read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.unit.trainer.tiny_model import make_exported, make_tokenizer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from slipway_trainer.data import lost_text
from slipway_trainer.data.formats.turns import ToolCall, Turn
from slipway_trainer.data.rows import Conversation
from slipway_trainer.data.scored_conversations import Spoken, as_scored, tokens_of
from slipway_trainer.evaluation import conversations, perplexity

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
    lost, every = lost_text.of_texts(words, [text])
    assert lost[0] == pytest.approx(expected * every[0])


def test_a_figure_of_text_that_the_tokenizer_does_not_read_is_none() -> None:
    exported, words = make_exported(), _by_letters(ENGLISH)
    found = perplexity.score(exported.model, words, [ENGLISH, CHINESE, CHINESE])
    metrics, missing = found.figures
    assert (metrics, found.observed) == ({}, {})
    assert "of the 3 documents of evaluation.data 51% of their characters are lost" in missing["bits_per_byte"]
    # Of the one that it reads there is one.
    assert found.of(np.array([True, False, False])).figures[1] == {}


@pytest.mark.parametrize(
    ("content", "lost"),
    [("{{ m.content }}", False), ("", True), ("{{ m.content[:9] }}", True), ("{{ m.content | upper }}!", False)],
)
def test_nor_is_one_of_answers_that_the_template_does_not_write(content: str, lost: bool) -> None:
    """Bytes are those of the row: a template that drops its answers made any model a good one."""
    exported = make_exported(positions=256)
    exported.tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'user' %}{{ m.content }}{% else %}"
        + content
        + "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turns = (Turn("user", "?", learned=False), Turn("assistant", CHINESE + ENGLISH))
    metrics, missing = conversations.score(exported, [Spoken(Conversation(1, turns), "a.jsonl:1")]).figures
    assert ("chat_bits_per_byte" in metrics) is not lost
    assert ("of their characters are lost" in missing.get("chat_bits_per_byte", "")) is lost


CALLS = """{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content or '' }}{% for c in m.tool_calls or [] %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def test_a_call_is_not_lost_for_how_its_json_is_written() -> None:
    words = make_tokenizer()
    words.chat_template = CALLS
    call = ToolCall("weather", json.dumps({"city": "北京市", "unit": None, "days": [1.5, True, "明"]}))
    turns = (Turn("user", "?", learned=False), Turn("assistant", "", tool_calls=(call,)))
    tools = json.dumps([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}])
    (found,) = as_scored(tokens_of(words), [Spoken(Conversation(1, turns, tools), "a.jsonl:1")], 4000)
    assert (found.lost, found.characters) == (0, len("weathercityunitdays北京市明"))


def test_nor_is_one_of_answers_that_the_tokenizer_does_not_read() -> None:
    exported = make_exported()
    turns = (Turn("user", "?", learned=False), Turn("assistant", CHINESE))
    exported.tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex("\\p{Han}"), "a")
    found = conversations.score(exported, [Spoken(Conversation(1, turns), "a.jsonl:1")]).figures[1]
    assert "of their characters are lost" in found["chat_bits_per_byte"]
