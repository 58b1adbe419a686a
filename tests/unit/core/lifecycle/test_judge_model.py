"""Gates on what a judge model says: what they compare with, and which of them let a model serve."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.core.runs import OTHER_DIGEST, a_plan, a_run
from tests.unit.core.world import World

from slipway_core.lifecycle import verdict
from slipway_core.lifecycle.endpoint_claim import Claim
from slipway_core.lifecycle.verdict import Measured
from slipway_core.protocol.commands import Baseline
from slipway_core.protocol.estimate import Estimate, Figure
from slipway_core.resources.status import Verdict

WINS = {"metric": "win_rate", "min": 0.5}
ABSOLUTE = {"metric": "perplexity", "max": 20}


def asked(compare: str | None, *gates: dict[str, Any], **spec: Any) -> Any:
    judge = {
        "url": "http://judge/v1",
        "model": "m",
        "criteria": "Be kind.",
        **({"compare": compare} if compare else {}),
    }
    prompts = [{"uri": "file://prompts.jsonl"}]
    return a_run(gates=list(gates), evaluation={"prompts": prompts, "judge": judge}, **spec)


def judged(compare: str, value: float | None, *, live: bool) -> verdict.Judgement:
    evaluation = a_plan(asked(compare, WINS, serving=False, model={"from": "file:///base"})).evaluation
    estimate = None if value is None else Estimate(value, value - 0.05, value + 0.05, 40, 40)
    measured = Measured(
        {},
        baseline={} if live else None,
        estimates=[estimate],
        figures=[Figure(value, reason=None if value is not None else 0)],
        reasons=["2 of 40 prompts have no usable answer of the judge"],
    )
    return verdict.judge(evaluation.gates, measured, win_rate_over=evaluation.win_rate_over)


@pytest.mark.parametrize(
    ("compare", "live", "value", "found"),
    [
        ("Live", False, None, Verdict.NOT_APPLICABLE),
        ("Live", False, 0.9, Verdict.NOT_APPLICABLE),
        ("Live", True, 0.9, Verdict.PASS),
        ("Live", True, 0.3, Verdict.FAIL),
        ("Live", True, 0.52, Verdict.INCONCLUSIVE),
        ("Live", True, None, Verdict.INCONCLUSIVE),
        ("Base", False, 0.9, Verdict.PASS),
        ("Reference", False, 0.9, Verdict.PASS),
        ("Reference", False, None, Verdict.INCONCLUSIVE),
    ],
)
def test_A_a_win_rate_is_judged_as_what_it_compares_with_allows(
    compare: str, live: bool, value: float | None, found: Verdict
) -> None:
    result = judged(compare, value, live=live)
    assert result.verdict is found
    assert result.metrics[0].threshold == f">= 0.5 over {compare.lower()}"
    if value is None and found is Verdict.INCONCLUSIVE:
        assert "2 of 40 prompts have no usable answer of the judge" in result.reason


def a_live_version(world: World) -> None:
    world.goes_live(OTHER_DIGEST, credentials="store")
    world.endpoint = replace(world.endpoint, claim=Claim("older", OTHER_DIGEST, "2025-01-01T00:00:00Z", "u"))


def test_a_win_rate_over_live_names_the_live_version_to_the_evaluation() -> None:
    world = World(asked("Live", ABSOLUTE, WINS))
    a_live_version(world)
    world.through("prepare", "learn", "export")
    create = next(c for d in world.decisions for c in d.create if c.step == "evaluate")
    assert create.baseline == Baseline("file:///live", OTHER_DIGEST, "store")


def test_a_win_rate_over_anything_else_needs_no_live_version() -> None:
    world = World(asked("Reference", ABSOLUTE, WINS))
    a_live_version(world)
    world.through("prepare", "learn", "export")
    create = next(c for d in world.decisions for c in d.create if c.step == "evaluate")
    assert create.baseline is None


@pytest.mark.parametrize("compare", ["Live", "Base"])
def test_A_a_win_rate_beside_another_model_is_not_the_gate_that_serving_asks_for(compare: str) -> None:
    with pytest.raises(ValueError, match="serving needs at least one gate with max or min"):
        asked(compare, WINS, model={"from": "file:///base"})
    assert asked(compare, WINS, ABSOLUTE, model={"from": "file:///base"})


def test_a_win_rate_over_references_and_a_score_are_gates_of_the_model_itself() -> None:
    assert asked("Reference", WINS)
    assert asked(None, {"metric": "judge_score", "min": 0.5})


def test_a_win_rate_over_the_base_has_evaluate_read_it() -> None:
    assert a_plan(asked("Base", WINS, ABSOLUTE, model={"from": "file:///base"})).compares_with_base
    assert not a_plan(asked("Live", WINS, ABSOLUTE)).compares_with_base
