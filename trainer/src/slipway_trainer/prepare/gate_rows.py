"""Whether the held-out data has enough rows for its gates: known before anything is trained."""

from __future__ import annotations

from slipway_core.lifecycle.verdict import FEWEST_CLUSTERS, POINT
from slipway_core.plan import Plan
from slipway_core.resources.gate_metrics import POINT_METRICS, TEXT_METRICS
from slipway_trainer.data.held_out import HeldOut


def warnings(plan: Plan, held: HeldOut) -> list[str]:
    """Returns a sentence for each gate that will be inconclusive whatever is measured."""
    found: list[str] = []
    for number, gate in enumerate(plan.evaluation.gates):
        if gate.confidence is None or gate.confidence == POINT or gate.metric in POINT_METRICS:
            continue
        text = gate.metric in TEXT_METRICS
        rows = len(held.documents if text else held.prompts)
        if rows < FEWEST_CLUSTERS:
            what = "documents of evaluation.data" if text else "prompts of evaluation.prompts"
            found.append(
                f"evaluation.gates[{number}] ({gate.metric}) rests on {rows} {what} and will be inconclusive: "
                f"{FEWEST_CLUSTERS} are the fewest that bounds can be told from. Add more, or take the figure as it is "
                "with confidence: 0.5"
            )
    return found
