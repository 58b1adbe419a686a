"""What is said before the training of gates that no model can pass or fail."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.runs import a_plan, a_run

from slipway_trainer.data.held_out import HeldDocument, HeldOut
from slipway_trainer.prepare import gate_rows


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


def test_a_fixed_list_may_be_short() -> None:
    run = a_run(
        gates=[{"metric": "recall_count", "min": 2}],
        serving=False,
        evaluation={"prompts": [{"uri": "file://asked.jsonl", "recall": True}]},
    )
    assert gate_rows.warnings(a_plan(run), HeldOut([], [])) == []
