"""Answers are counted as stated."""

from __future__ import annotations

import pytest

from slipway_trainer.evaluation.answer_metrics import METRICS, figures, repetition, units
from slipway_trainer.evaluation.generation import Answer, Prompt


def _answer(text: str, *, wanted: str | None = None, recall: bool = False) -> Answer:
    prompt = Prompt([{"role": "user", "content": "?"}], answer=wanted, recall=recall)
    return Answer(prompt, text, len(text), "stop")


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
    assert missing.keys() == set(METRICS)
