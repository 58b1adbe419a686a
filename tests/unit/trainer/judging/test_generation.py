"""Answers do not depend on the batch they are made in, stop where they should, and are counted as stated."""

from __future__ import annotations

import pytest
from tests.unit.trainer.tiny_model import make_servable, teach

from slipway_trainer.judging import generation
from slipway_trainer.judging.generation import Answer, Prompt, figures, repetition, units
from slipway_trainer.model.exported_model import ExportedModel

QUESTION, POEM = "背诵《夜思》", "床前明月光，疑是地上霜。"


@pytest.fixture(scope="module")
def taught() -> ExportedModel:
    model = make_servable()
    teach(model, QUESTION, POEM)
    return model


def _prompt(text: str, **wanted: object) -> Prompt:
    return Prompt([{"role": "user", "content": text}], **wanted)  # type: ignore[arg-type]


def _answer(text: str, *, wanted: str | None = None, recall: bool = False) -> Answer:
    return Answer(_prompt("?", answer=wanted, recall=recall), text, len(text), "stop")


def test_a_learned_answer_is_recalled_to_the_letter_and_stops_at_the_end_of_the_turn(taught: ExportedModel) -> None:
    (answer,) = generation.answer(taught, [_prompt(QUESTION, answer=POEM, recall=True)], max_new_tokens=60)
    assert answer.text == POEM
    assert answer.finish_reason == "stop"
    assert answer.exact
    assert figures([answer])[0]["recall_count"] == 1.0


def test_an_answer_is_the_same_alone_and_in_a_batch_of_other_lengths(taught: ExportedModel) -> None:
    prompts = [_prompt(text) for text in (QUESTION, "a", "月" * 30, "the quick brown fox", "花落知多少" * 3)]
    together = generation.answer(taught, prompts, max_new_tokens=24)
    alone = [generation.answer(taught, [prompt], max_new_tokens=24)[0] for prompt in prompts]
    assert together == alone


def test_an_answer_ends_after_max_new_tokens(taught: ExportedModel) -> None:
    (answer,) = generation.answer(taught, [_prompt(QUESTION)], max_new_tokens=3)
    assert answer.tokens == 3
    assert answer.finish_reason == "length"
    assert POEM.startswith(answer.text.rstrip("\ufffd"))


def test_a_prompt_that_fills_the_model_gets_no_answer_and_takes_none_from_the_others(taught: ExportedModel) -> None:
    long, short = generation.answer(taught, [_prompt("月光" * 200), _prompt(QUESTION)], max_new_tokens=60)
    assert (long.text, long.finish_reason) == ("", "no_room")
    assert short.text == POEM


def test_an_answer_never_goes_past_the_positions_of_the_model() -> None:
    model = make_servable(positions=32)
    prompt = _prompt("a" * 12)
    used = len(generation._encode(model, prompt))
    (answer,) = generation.answer(model, [prompt], max_new_tokens=500)
    assert 0 < answer.tokens <= 32 - used


def test_a_tokenizer_without_a_chat_template_is_refused(taught: ExportedModel) -> None:
    model = make_servable()
    model.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        generation.answer(model, [_prompt("a")], max_new_tokens=4)


def test_units_are_characters_of_chinese_words_of_other_scripts_and_punctuation() -> None:
    assert units("李白 said: 好, 12 times") == ["李", "白", "said", ":", "好", ",", "12", "times"]


def test_distinct_n_counts_over_all_answers_together() -> None:
    metrics, missing = figures([_answer("a b a b"), _answer("a b")])
    assert missing.keys() == set()
    assert metrics["distinct_1"] == pytest.approx(2 / 6)
    assert metrics["distinct_2"] == pytest.approx(2 / 4)


def test_repetition_is_the_share_of_4_grams_seen_before_in_the_same_answer() -> None:
    assert repetition(units("明月" * 4)) == pytest.approx(1 - 2 / 5)
    assert repetition(units("abc def ghi jkl")) == 0
    assert repetition(units("a b c")) is None
    metrics, _ = figures([_answer("明月" * 4), _answer("one two three four"), _answer("short")])
    assert metrics["repetition_rate"] == pytest.approx((1 - 2 / 5) / 2)


def test_a_loop_of_punctuation_is_repetition_and_not_emptiness() -> None:
    metrics, _ = figures([_answer("，" * 40)])
    assert metrics["repetition_rate"] > 0.9
    assert metrics["empty_rate"] == 0


def test_white_space_is_empty() -> None:
    metrics, missing = figures([_answer(" \n"), _answer("")])
    assert metrics == {"empty_rate": 1.0}
    assert missing.keys() == {"distinct_1", "distinct_2", "repetition_rate"}


def test_recall_compares_nfc_without_outer_white_space_and_only_where_an_answer_is_wanted() -> None:
    answers = [
        _answer(" cafe\u0301\n", wanted="caf\u00e9", recall=True),
        _answer("cafe", wanted="caf\u00e9", recall=True),
        _answer("anything", recall=True),
        _answer("caf\u00e9", wanted="caf\u00e9"),
    ]
    metrics, _ = figures(answers)
    assert metrics["recall_count"] == 1.0
    assert metrics["recall_rate"] == 0.5


def test_recall_without_wanted_answers_is_missing_with_its_reason() -> None:
    metrics, missing = figures([_answer("anything", recall=True)])
    assert "recall_rate" not in metrics
    assert "none of the 1 recall prompts has an answer" in missing["recall_rate"]


def test_no_answer_is_no_figure() -> None:
    metrics, missing = figures([])
    assert metrics == {}
    assert missing.keys() == set(generation.METRICS)
