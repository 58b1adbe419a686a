"""What is said that a gate can show is what its verdict would be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.trainer.plans_of_data import causal, chat, plan, write_rows

import slipway_trainer
from slipway_core.plan import Plan
from slipway_core.resources.evaluation import Gate
from slipway_trainer.bounds import intervals
from slipway_trainer.data import held_out, inputs
from slipway_trainer.data.held_out import HeldOut, HeldTask
from slipway_trainer.evaluation import corpus_scores
from slipway_trainer.evaluation.estimates import gate_estimates
from slipway_trainer.evaluation.estimates.observed import Observed
from slipway_trainer.prepare import gate_power
from slipway_trainer.prepare.gate_power import Power


def held(tmp_path, gate: dict[str, Any], *, prompts=(), documents=(), recall=False, name="one") -> tuple[Plan, HeldOut]:
    train = write_rows(tmp_path / "train.jsonl", {"text": "what is learned"})
    more: dict[str, Any] = {"gates": [gate]}
    if prompts:
        asked = {"uri": write_rows(tmp_path / f"{name}-prompts.jsonl", *prompts)}
        more["prompts"] = [asked | ({"recall": True} if recall else {})]
    if documents:
        more["data"] = [{"uri": write_rows(tmp_path / f"{name}-data.jsonl", *documents)}]
    made = plan(causal(train), **more)
    found = inputs.collect(made, tmp_path / f"data-{name}", lambda _: None)
    return made, held_out.read(found)


def questions(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"question {n}", "answer": f"answer {n}"} for n in range(count)]


def told(*arguments, **options) -> Power:
    (one,) = gate_power.of_gates(*held(*arguments, **options))
    return one


JUDGE = {"url": "http://127.0.0.1:9/v1", "model": "judge", "criteria": "true"}


def told_of_judge(tmp_path, gate: dict[str, Any], count: int, **judge: Any) -> Power:
    train = write_rows(tmp_path / "train.jsonl", {"text": "what is learned"})
    asked = write_rows(tmp_path / "prompts.jsonl", *questions(count))
    made = plan(causal(train), prompts=[{"uri": asked}], gates=[gate], judge={**JUDGE, **judge})
    (one,) = gate_power.of_gates(made, held_out.read(inputs.collect(made, tmp_path / "data", lambda _: None)))
    return one


def test_what_a_judge_says_is_a_mean_of_scores_and_some_gates_on_it_can_never_pass(tmp_path):
    one = told_of_judge(tmp_path, {"metric": "win_rate", "min": 0.9}, 20, compare="Reference")
    assert (one.gate, one.says) == ("win_rate >= 0.9 over reference", "20 prompts: no model can pass")
    assert one.never is not None
    assert one.never.startswith("evaluation.gates[0] (win_rate) can never pass: with all 20 at their best the lower")
    assert "Have 26 prompts or more" in one.never
    assert not passes("win_rate", 20, 20, min=0.9)
    assert passes("win_rate", 26, 26, min=0.9)
    one = told_of_judge(tmp_path, {"metric": "judge_score", "min": 0.5}, 20)
    found = re.fullmatch(r"20 prompts: passes for certain with a mean of (\S+) or more", one.says)
    assert found, one.says
    assert passes("judge_score", round(float(found[1]) * 20), 20, min=0.5)


def test_documents_of_a_task_show_what_as_many_prompts_do(tmp_path):
    train = write_rows(tmp_path / "train.jsonl", {"text": "what is learned"})
    gates = [{"metric": "acc", "task": "one", "min": 0.9}, {"metric": "acc", "task": "two", "maxRegression": 0.4}]
    made = plan(causal(train), tasks=[{"name": "one"}, {"name": "two"}], gates=gates)
    tasks = [HeldTask(name, number, "a question") for name in ("one", "two") for number in range(20)]
    first, second = gate_power.of_gates(made, HeldOut([], [], tasks=tasks))
    assert first.gate == "acc of task one >= 0.9"
    assert first.never is not None
    assert first.never.startswith("evaluation.gates[0] (acc of task one) can never pass: with all 20 at their best")
    assert "Have 26 documents of the task or more" in first.never
    assert re.search(
        r"20 documents of the task: where none gets better, passes with \d of 20 that became worse", second.says
    )
    # Preview does not read the rows of a task of the hub, and says nothing of them.
    assert gate_power.of_gates(made, HeldOut([], [])) == []


def passes(metric: str, right: int, of: int, **gate) -> bool:
    """Whether a model passes that has so many right, by the bounds that judge it."""
    sums = np.zeros(of)
    sums[:right] = 1
    asked = Gate.model_validate({"metric": metric, "confidence": 0.95, **gate}, by_alias=True, by_name=False)
    found = gate_estimates.of_gate(asked, Observed("Share", sums, np.ones(of)), None)
    assert found is not None
    return found.lower >= asked.min if asked.min is not None else found.upper <= (asked.max or 0)


@pytest.mark.parametrize(("count", "least"), [(26, 0.9), (20, 0.5), (100, 0.9), (33, 0.3)])
def test_a_share_passes_with_as_many_right_as_is_said_and_not_with_one_fewer(tmp_path, count, least):
    says = told(tmp_path, {"metric": "exact_match", "min": least}, prompts=questions(count)).says
    found = re.fullmatch(rf"{count} prompts: passes only with (\d+) of {count} right( or more)?", says)
    assert found, says
    right = int(found[1])
    assert passes("exact_match", right, count, min=least)
    assert not passes("exact_match", right - 1, count, min=least)
    assert bool(found[2]) == (right < count)


def test_twenty_prompts_show_seventeen_twentieths_only_where_all_are_right(tmp_path):
    one = told(tmp_path, {"metric": "exact_match", "min": 0.85}, prompts=questions(20))
    assert (one.gate, one.never) == ("exact_match >= 0.85", None)
    assert one.says == "20 prompts: passes only with 20 of 20 right"


@pytest.mark.parametrize(("count", "most"), [(40, 0.1), (200, 0.05), (500, 0.02)])
def test_a_share_that_must_be_small_passes_with_as_many_as_is_said_and_not_with_one_more(tmp_path, count, most):
    says = told(tmp_path, {"metric": "empty_rate", "max": most}, prompts=questions(count)).says
    found = re.fullmatch(rf"{count} prompts: passes only with (\d+) of {count}( or fewer)?", says)
    assert found, says
    assert passes("empty_rate", int(found[1]), count, max=most)
    assert not passes("empty_rate", int(found[1]) + 1, count, max=most)


@pytest.mark.parametrize(
    ("gate", "count", "perfect"),
    [({"metric": "exact_match", "min": 0.98}, 30, True), ({"metric": "empty_rate", "max": 0.02}, 40, False)],
)
def test_a_gate_that_a_faultless_model_would_not_pass_is_told_with_how_many_rows_would_do(
    tmp_path, gate, count, perfect
):
    one = told(tmp_path, gate, prompts=questions(count))
    found = re.search(
        r"can never pass: .*Have ([\d,]+) prompts or more, ask for less, or take the figure", one.never or ""
    )
    assert found, one
    enough = int(found[1].replace(",", ""))
    asked = {name: value for name, value in gate.items() if name != "metric"}
    for rows, holds in ((count, False), (enough - 1, False), (enough, True)):
        assert passes(gate["metric"], rows if perfect else 0, rows, **asked) is holds
    assert not told(tmp_path, gate, prompts=questions(enough), name="more").never


@pytest.mark.parametrize("gate", [{"metric": "exact_match", "min": 1}, {"metric": "empty_rate", "max": 0}])
def test_no_number_of_rows_shows_that_all_are_right(tmp_path, gate):
    never = told(tmp_path, gate, prompts=questions(30)).never
    assert "No number of prompts shows that: ask for less" in (never or "")
    assert told(tmp_path, {**gate, "confidence": 0.5}, prompts=questions(30), name="as-it-is").never is None


def test_what_may_become_wrong_is_what_the_bounds_of_the_difference_let_pass(tmp_path):
    gate = {"metric": "exact_match", "maxRegression": 0.05}
    says = told(tmp_path, gate, prompts=questions(200)).says
    found = re.fullmatch(
        r"200 prompts: where none gets better, passes with (\d+) of 200 .*wrong that was right.*", says
    )
    assert found, says
    for wrong, holds in ((int(found[1]), True), (int(found[1]) + 1, False)):
        worse = np.zeros(200)
        worse[:wrong] = 1
        assert (intervals.of_share_difference(worse, np.ones(200), 0.95).upper <= 0.05) is holds
    few = told(tmp_path, gate, prompts=questions(20), name="few")
    assert "a model that answers the same does not pass" in few.says
    assert few.never is None


def test_a_mean_of_scores_is_told_as_it_holds_whatever_they_are(tmp_path):
    says = told(tmp_path, {"metric": "token_f1", "min": 0.6}, prompts=questions(50)).says
    mean = float(says.removesuffix(" or more").rpartition(" ")[2])
    sums = np.zeros(50)
    sums[: round(50 * mean)] = 1
    assert intervals.of_share(sums, np.ones(50), 0.95).lower >= 0.6
    assert intervals.of_share(np.full(50, mean), np.ones(50), 0.95).lower >= 0.6


def test_rows_of_one_cluster_are_one_piece_and_few_pieces_say_nothing(tmp_path):
    twos = [{**row, "cluster": f"page {n // 2}"} for n, row in enumerate(questions(40))]
    says = told(tmp_path, {"metric": "exact_match", "min": 0.5}, prompts=twos).says
    assert says.startswith("20 clusters of 40 prompts: passes only with")
    few = told(tmp_path, {"metric": "exact_match", "min": 0.5}, prompts=questions(7), name="few")
    assert few.says == "7 prompts: inconclusive whatever is measured, 8 are the fewest"
    assert few.never is None, "that is said already"


def test_a_list_that_is_asked_in_whole_cannot_give_more_than_it_has(tmp_path):
    gate = {"metric": "recall_count", "min": 3}
    (line,) = gate_power.warnings(*held(tmp_path, gate, prompts=questions(2), recall=True))
    assert line.startswith(
        "evaluation.gates[0] (recall_count) can never pass: 2 prompts have recall: true, and min is 3"
    )
    assert gate_power.warnings(*held(tmp_path, gate, prompts=questions(3), recall=True, name="enough")) == []


@pytest.mark.parametrize("metric", ["bits_per_byte", "perplexity", "word_perplexity", "byte_perplexity"])
def test_figures_of_texts_pass_half_of_the_time_where_it_is_said_that_they_pass(tmp_path, metric):
    """Documents of different lengths that differ as is assumed."""
    draw = np.random.default_rng(3)
    sizes, spread = draw.integers(200, 1000, 40), gate_power.SPREAD[metric]
    says = told(tmp_path, {"metric": metric, "max": 3}, documents=[{"text": "x" * int(size)} for size in sizes]).says
    found = re.search(
        rf"40 documents: passes with about ([\d.]+) or less \(assumed that documents differ by {spread:.0%}\)", says
    )
    assert found, says
    center = float(found[1]) if metric == "bits_per_byte" else np.log(float(found[1]))
    limit = 3 if metric == "bits_per_byte" else np.log(3)
    passed = 0
    for _ in range(100):
        each = center * (1 + spread * draw.standard_normal(40))
        passed += intervals.of_ratio(each * sizes, sizes.astype(float), 0.95).upper <= limit
    assert 30 <= passed <= 70


def spoilt(reference: str, share: float, draw: np.random.Generator) -> str:
    """Returns a text with so many of its words exchanged for others of the same length."""
    return " ".join("x" * len(word) if draw.random() < share else word for word in reference.split())


REFERENCES = [
    sentence
    for row in map(
        json.loads, (Path(slipway_trainer.__file__).parent / "samples" / "general-text.jsonl").read_text().splitlines()
    )
    for sentence in re.split(r"(?<=[.!?])\s+", row["text"])
    if sentence.isascii() and 40 < len(sentence) < 200
][:40]


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_figure_of_a_corpus_passes_where_it_is_said_of_answers_as_good_as_prompts_are_hard(tmp_path, metric, share):
    """What is said lies as far above what is asked as the bound lies below such a figure, within a factor of 2.5."""
    draw = np.random.default_rng(11)
    answers = [spoilt(one, draw.beta(2 * share, 2 - 2 * share), draw) for one in REFERENCES]
    parts = getattr(corpus_scores, f"{metric}_parts")(answers, [[one] for one in REFERENCES])
    found = intervals.of_sums(parts, np.ones(len(answers)), getattr(corpus_scores, metric), 0.95)
    says = told(tmp_path, {"metric": metric, "min": round(found.lower, 6)}, prompts=questions(40)).says
    needed = re.fullmatch(
        r"40 prompts: passes with about (\S+) or more \(assumed that answers differ by \S+ points\)", says
    )
    assert needed, says
    assert 0.4 < (float(needed[1]) - found.lower) / (found.value - found.lower) < 2.5


def test_what_is_asked_of_a_corpus_is_told_with_what_tiny_models_were_measured_to_pass(tmp_path):
    """A model of 1.7 million weights had a chrF of 1.9 (1.02 to 5.2) of 40 lines of verse."""

    def needed(gate: dict[str, Any]) -> float:
        says = told(tmp_path, {"metric": "chrf", **gate}, prompts=questions(40)).says
        return float(says.partition("about ")[2].split()[0])

    assert 1.9 < needed({"min": 1.02}) < 4
    assert needed({"min": 0.5}) < 3
    assert 0 < needed({"max": 5.2}) < 1.9
    assert 88 < needed({"min": 85}) < 99
    less = told(tmp_path, {"metric": "chrf", "maxRegression": 5}, prompts=questions(40)).says
    assert "passes where it is better by 0.3" in less, "5.3 points are not told from none"
    assert "assumed that it differs by 20 points" in less
    hardly = told(tmp_path, {"metric": "bleu", "max": 2}, prompts=questions(40)).says
    assert hardly == "40 prompts: hardly passes whatever is answered (assumed that answers differ by 15 points)"


def test_the_more_one_document_outweighs_the_others_the_less_they_show(tmp_path):
    even = [{"text": "x" * 300 + str(n)} for n in range(20)]
    book = [*even[:19], {"text": "y" * 100_000}]
    found = []
    for name, rows in (("even", even), ("book", book)):
        says = told(tmp_path, {"metric": "bits_per_byte", "max": 2.0}, documents=rows, name=name).says
        found.append(float(says.partition("about ")[2].split()[0]))
    assert found[1] < found[0] < 2


def test_conversations_count_by_their_answers_and_a_regression_by_how_much_documents_change(tmp_path):
    chats = [chat(f"question {n}", "answer " * 40) for n in range(20)]
    gate = {"metric": "chat_bits_per_byte", "maxRegression": 0.5}
    says = told(tmp_path, gate, documents=chats).says
    found = re.search(
        r"^20 conversations: passes where it is worse by (0\.4\d+) or less \(assumed that it differs", says
    )
    assert found, says
    small = told(tmp_path, {**gate, "maxRegression": 0}, documents=chats, name="small").says
    assert "passes where it is better by 0.0" in small


def test_too_few_tokens_are_told_where_there_is_a_tokenizer(tmp_path):
    gate = {"metric": "bits_per_byte", "max": 2.0, "minTokens": 1000}
    made, found = held(tmp_path, gate, documents=[{"text": f"line {n}"} for n in range(20)])

    def words(texts, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [list(text) for text in texts]}

    (line,) = gate_power.warnings(made, found, words)
    assert "can never pass: its documents have 130 tokens, and minTokens is 1,000" in line
    assert gate_power.warnings(made, found) == []
