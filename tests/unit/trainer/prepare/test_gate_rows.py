"""What is said before the training of gates that no model can pass or fail."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.runs import a_plan, a_run

from slipway_trainer.data.held_out import HeldDocument, HeldOut, HeldPrompt
from slipway_trainer.data.rows import Prompt
from slipway_trainer.prepare import gate_rows, judge_questions
from slipway_trainer.step.errors import BadData


def warnings(documents: int, **gate: Any) -> list[str]:
    run = a_run(gates=[{"metric": "perplexity", "max": 20} | gate], serving=False)
    held = HeldOut([HeldDocument(f"held-out.jsonl:{n}", None) for n in range(documents)], [])  # type: ignore[arg-type]
    return gate_rows.warnings(a_plan(run), held)


def test_a_gate_with_fewer_rows_than_bounds_need_is_named_with_both_numbers_and_what_to_do() -> None:
    (line,) = warnings(7)
    assert line.startswith("evaluation.gates[0] (perplexity) rests on 7 documents of evaluation.data")
    assert "8 are the fewest" in line
    assert "confidence: 0.5" in line
    assert warnings(8) == []


@pytest.mark.parametrize("gate", [{"confidence": 0.5}])
def test_a_gate_that_takes_figures_as_they_are_needs_no_more(gate: dict[str, Any]) -> None:
    assert warnings(1, **gate) == []


def test_of_no_row_at_all_no_figure_can_be_taken_as_it_is() -> None:
    for gate in ({"confidence": 0.5}, {"confidence": 0.95}):
        (line,) = warnings(0, **gate)
        assert line.startswith("evaluation.gates[0] (perplexity) rests on 0 documents of evaluation.data")
        assert line.endswith(" and will be inconclusive. Add more")


def test_a_fixed_list_may_be_short() -> None:
    run = a_run(
        gates=[{"metric": "recall_count", "min": 2}],
        serving=False,
        evaluation={"prompts": [{"uri": "file://asked.jsonl", "recall": True}]},
    )
    assert gate_rows.warnings(a_plan(run), HeldOut([], [])) == []


JUDGE = {"url": "http://judge/v1", "model": "m", "criteria": "Be kind."}


def asked_of_a_judge(compare: str, *gates: dict[str, Any], repeats: int = 1) -> Any:
    judge = {**JUDGE, "compare": compare, "repeats": repeats}
    evaluation = {"prompts": [{"uri": "file://prompts.jsonl"}], "judge": judge}
    return a_plan(a_run(gates=list(gates), serving=False, model={"from": "file:///base"}, evaluation=evaluation))


def prompts(*answers: str | None, recall: bool = False) -> HeldOut:
    rows = [Prompt(number, (), answer) for number, answer in enumerate(answers, 1)]
    return HeldOut([], [HeldPrompt("prompts.jsonl", row, recall) for row in rows])


def test_a_row_without_an_answer_is_named_where_a_judge_compares_with_it() -> None:
    wins = {"metric": "win_rate", "min": 0.5}
    held = prompts("an answer", None)
    with pytest.raises(BadData, match=r"prompts\.jsonl:2: evaluation\.gates\[0\] \(win_rate\): the row has no answer"):
        gate_rows.check(asked_of_a_judge("Reference", wins), held)
    gate_rows.check(asked_of_a_judge("Live", wins), held)
    gate_rows.check(asked_of_a_judge("Base", wins), held)


def test_a_judge_is_asked_of_prompts_without_recall_alone() -> None:
    with pytest.raises(BadData, match="no prompts that it is computed from"):
        gate_rows.check(asked_of_a_judge("Live", {"metric": "win_rate", "min": 0.5}), prompts("a", recall=True))


@pytest.mark.parametrize(
    ("gates", "repeats", "questions"),
    [
        ([{"metric": "win_rate", "min": 0.5}], 1, 20),
        ([{"metric": "win_rate", "min": 0.5}], 3, 60),
        ([{"metric": "win_rate", "min": 0.5}, {"metric": "judge_score", "min": 0.5}], 2, 60),
        ([{"metric": "win_rate", "min": 0.5}, {"metric": "judge_score", "maxRegression": 0.5}], 1, 40),
        (
            [
                {"metric": "win_rate", "min": 0.5},
                {"metric": "judge_score", "maxRegression": 0.5, "against": "Base"},
                {"metric": "judge_score", "maxRegression": 0.5},
                {"metric": "judge_score", "min": 0.5},
            ],
            1,
            50,
        ),
    ],
)
def test_the_questions_that_a_judge_will_be_asked_are_counted(
    gates: list[dict[str, Any]], repeats: int, questions: int
) -> None:
    plan = asked_of_a_judge("Live", *gates, repeats=repeats)
    assert judge_questions.most(plan, prompts(*["a"] * 10)) == questions


def test_nothing_is_said_of_a_judge_that_is_not_there() -> None:
    plan = a_plan(a_run(serving=False))
    assert (judge_questions.most(plan, prompts("a")), judge_questions.line(plan, prompts("a"))) == (0, None)
