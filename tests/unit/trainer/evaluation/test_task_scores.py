"""What a model did in tasks, from the scores of documents to the figures of gates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from slipway_core.lifecycle import verdict
from slipway_core.lifecycle.verdict import Judgement
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.status import Verdict
from slipway_trainer.evaluation.evaluation_data import EvaluationData
from slipway_trainer.evaluation.findings import Findings, Other, of_gates
from slipway_trainer.evaluation.task_scores import PreparedTask, TaskScores
from slipway_trainer.harness.description import Described, Metric, Scored, Wanted

NONE = Other(None, None)


def judged(gate: Gate, scores: Sequence[float]) -> Judgement:
    """The verdict on a model whose documents score so in one task."""
    described = Described(
        "poems", "test", None, 0, {gate.metric: Metric(share=True, higher=True)}, None, None, "0.4", "1"
    )
    task = PreparedTask(Wanted("poems"), described, {"test": Path("poems")}, None, texts=("a",) * len(scores))
    scored = Scored({gate.metric: sum(scores) / len(scores)}, {gate.metric: scores}, len(scores))
    mine = Findings(EvaluationData([], [], "sha256:" + "a" * 64), tasks={"poems": TaskScores(task, scored)})
    figures, estimates, reasons = of_gates([gate], mine, live=NONE, base=NONE)
    return verdict.judge([gate], verdict.Measured({}, figures=figures, estimates=estimates, reasons=reasons))


@pytest.mark.parametrize("scores", [[0.0, 30.0, 100.0] * 8, [0.0, -0.5, 1.0] * 8])
def test_A_scores_without_bounds_are_inconclusive_and_it_is_said_why(scores: Sequence[float]) -> None:
    found = judged(Gate(metric="bleu_max", task="poems", min=0.1, confidence=0.95), scores)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.metrics[0].value == pytest.approx(sum(scores) / len(scores))
    assert "what documents of task poems score is not between 0 and 1. Take the figure as it is" in found.reason
    as_it_is = judged(Gate(metric="bleu_max", task="poems", min=0.1, confidence=0.5), scores)
    assert as_it_is.verdict is Verdict.PASS


def test_a_share_of_documents_has_bounds() -> None:
    found = judged(Gate(metric="acc", task="poems", min=0.1, confidence=0.95), [0.0, 1.0] * 12)
    assert found.verdict is Verdict.PASS
    assert found.metrics[0].clusters == 24
