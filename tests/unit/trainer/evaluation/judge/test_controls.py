"""A judge that finds nearly all answers alike is believed where it tells misplaced answers from the right ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from slipway_core.resources.judge import Judge
from slipway_trainer.evaluation.judge import controls
from slipway_trainer.evaluation.judge.asking import Reply
from slipway_trainer.evaluation.judge.questions import Kind

JUDGE = Judge(url="http://judge/v1", model="m", criteria="Be kind.")


def answers(*said: str, references: bool = False) -> list[Any]:
    """Answers of a model to as many prompts, with them as references where it is so."""
    return [
        SimpleNamespace(
            said="whatever" if references else one,
            references=(one,) if references else (),
            prompt=SimpleNamespace(messages=[{"role": "user", "content": f"ask {n}"}], tools=None, source=f"a:{n}"),
        )
        for n, one in enumerate(said)
    ]


def replies(kind: Kind, made: list[Any], *points: float | None) -> list[Reply]:
    """What a judge says, over and over, of what it is asked."""
    asked = controls.put(JUDGE, kind, made, range(len(made)))
    return [Reply(one, points[number % len(points)], trouble="silence") for number, one in enumerate(asked)]


@pytest.mark.parametrize(("apart", "asked", "doubted"), [(0, 1, True), (0, 0, False), (3, 40, True), (4, 40, False)])
def test_a_judge_is_doubted_where_it_tells_fewer_than_one_in_ten_apart(apart: int, asked: int, doubted: bool) -> None:
    assert controls.is_doubted(apart, asked) is doubted


def test_marks_are_told_apart_where_they_are_not_the_commonest_one() -> None:
    assert controls.apart_from_commonest([0.5, 0.5, 0.5, 1.0, 0.0]) == 2
    assert controls.apart_from_commonest([]) == 0


@pytest.mark.parametrize("references", [True, False])
def test_each_prompt_is_shown_the_answer_to_another_one(references: bool) -> None:
    made = answers("one", "one", "two", "three", references=references)
    asked = controls.put(JUDGE, "Mark", made, range(4))
    shown = [(one.row, one.user.split("begin answer\n")[1].split("\n")[0]) for one in asked]
    assert shown == [
        (0, "one"), (0, "two"), (1, "one"), (1, "two"), (2, "two"), (2, "three"), (3, "three"), (3, "one"),
    ]  # fmt: skip
    assert {one.of for one in asked} == {"control"}


def test_no_more_than_eight_are_shown_from_all_parts_of_the_prompts() -> None:
    asked = controls.put(JUDGE, "Pair", answers(*map(str, range(100))), range(100))
    assert len(asked) == 16
    assert sorted({one.row for one in asked}) == [0, 12, 25, 37, 50, 62, 75, 87]


@pytest.mark.parametrize(
    ("kind", "points", "believed"),
    [
        ("Pair", (1.0,), True),
        ("Pair", (0.0,), True),
        ("Pair", (0.5,), False),
        ("Pair", (1.0, 0.0), False),
        ("Pair", (None,), False),
        ("Pair", (1.0, 1.0, 0.5, 0.5), True),
        ("Pair", (1.0, 1.0, 0.5, 0.5, 0.5, 0.5), False),
        ("Mark", (1.0, 0.0), True),
        ("Mark", (0.5,), False),
        ("Mark", (0.5, None), False),
    ],
)
def test_A_whoever_tells_half_of_them_apart_is_believed(kind: Kind, points: tuple[Any, ...], believed: bool) -> None:
    said = controls.blind(kind, replies(kind, answers(*"abcdefgh"), *points))
    assert (said is None) is believed
    if said is not None and None not in points:
        assert said.startswith("the judge tells no two different answers apart: it ")
        assert "of 8 answers to another prompt from the right one" in said


def test_A_a_judge_that_is_gone_when_it_is_tried_is_not_blamed_and_passes_nothing() -> None:
    said = str(controls.blind("Mark", replies("Mark", answers(*"abcdefgh"), 0.5, None)))
    assert "could not be seen: of 8 answers to another prompt beside the right one 8 have no usable answer" in said
    assert "such as silence" in said
    assert "ask another" not in said


def test_A_where_all_prompts_have_the_same_answer_nobody_can_show_that_it_tells_any_apart() -> None:
    made = replies("Pair", answers("a", " a", "a"), 0.5)
    assert made == []
    assert "no answers to two prompts that differ" in str(controls.blind("Pair", made))
