"""How often a judge will be asked, which is what it costs: known before anything is trained."""

from __future__ import annotations

from slipway_core.plan import Plan
from slipway_core.resources.gate_metrics import JUDGE_METRICS, JUDGE_SCORE, WIN_RATE
from slipway_trainer.data.held_out import HeldOut
from slipway_trainer.prepare import gate_rows

CONTROLS = 16
"""Questions about wrong answers, of each metric: two about each of 8 (`evaluation.judge.controls`)."""


def most(plan: Plan, held: HeldOut) -> int:
    """Returns how many questions an evaluation puts to the judge at the most: two answers that are the same need none,
    and what compares with the live version needs none where no version is live. What is tried again is not counted."""
    judge, evaluation = plan.evaluation.judge, plan.evaluation
    if judge is None:
        return 0
    pairs, marks = set[int](), {None: set[int](), "Live": set[int](), "Base": set[int]()}
    for gate in evaluation.gates:
        if gate.metric not in (WIN_RATE, JUDGE_SCORE):
            continue
        rows = {id(row) for row in gate_rows.rows_of(gate, held)}
        if gate.metric == WIN_RATE:
            pairs |= rows
        else:
            for whose in {None, evaluation.compared_with(gate)}:
                marks[whose] |= rows
    return judge.repeats * (2 * len(pairs) + sum(map(len, marks.values())))


def line(plan: Plan, held: HeldOut) -> str | None:
    """Returns the same in a sentence; None without a judge."""
    judge = plan.evaluation.judge
    if judge is None:
        return None
    kinds = len({gate.metric for gate in plan.evaluation.gates} & set(JUDGE_METRICS))
    return (
        f"the judge {judge.model} at {judge.url} will be asked at most {most(plan, held):,} questions, and "
        f"{kinds * CONTROLS} more where it tells hardly any two answers apart"
    )
