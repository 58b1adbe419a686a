"""What lets a gate be judged that could not be: more rows, another threshold, or the same once more.

The rows of a run are fixed, and so is its model: what rests on too few of them rests on as few when it is judged again.
"""

from __future__ import annotations

from enum import StrEnum

from slipway_core.lifecycle.verdict import RESTS_ON, UNDECIDABLE
from slipway_core.resources.status import EvaluationStatus, MetricStatus, Verdict


class Remedy(StrEnum):
    """As a person is told it."""

    ROWS = "take more held-out rows (evaluation.data, evaluation.prompts, or those of the task)"
    THRESHOLD = "ask for more or for less"
    CAUSE = "mend the cause"
    """Which the gate's reason says; the run itself can be judged again then."""


def of_gate(metric: MetricStatus) -> Remedy:
    """Returns what helps a gate that is inconclusive."""
    reason = metric.reason or ""
    if UNDECIDABLE in reason:
        return Remedy.THRESHOLD
    # Bounds that have what is asked between them are told; fewer tokens than minTokens have none.
    return Remedy.ROWS if metric.lower is not None or reason.startswith(RESTS_ON) else Remedy.CAUSE


def of_held(evaluation: EvaluationStatus | None, run: str, again: str) -> str:
    """Returns what to do of a run that is Held: all that its inconclusive gates need.

    Args:
        again: what has the run judged again, which helps only where no gate needs other rows or another threshold.
    """
    metrics = evaluation.metrics if evaluation is not None else ()
    needed = {of_gate(metric) for metric in metrics if metric.verdict is Verdict.INCONCLUSIVE}
    if needed <= {Remedy.CAUSE}:
        return f"{Remedy.CAUSE}, then {again}"
    return f"{', '.join(remedy for remedy in Remedy if remedy in needed)}, {in_another_run(run)}"


def in_another_run(run: str) -> str:
    """Returns how a model is judged by other rows or gates than those of the run that made it."""
    return f"in a run of another metadata.name; with `model: {{from: run://{run}}}` and `stages: []` it trains nothing"
