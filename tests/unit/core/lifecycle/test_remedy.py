"""What a run that is Held says that helps it."""

from __future__ import annotations

import pytest
from tests.unit.core.runs import DIGEST, a_run
from tests.unit.core.world import World

from slipway_core.lifecycle.annotations import REEVALUATE_ANNOTATION
from slipway_core.lifecycle.remedy import Remedy, of_gate
from slipway_core.protocol.estimate import Estimate
from slipway_core.protocol.step_result import EvaluationResult
from slipway_core.resources.status import MetricStatus, Phase, Verdict

GATES = [{"metric": "perplexity", "max": 20, "minTokens": 100}, {"metric": "bits_per_byte", "max": 3}]
ROWS = "take more held-out rows (evaluation.data, evaluation.prompts, or those of the task)"
AGAIN = "in a run of another metadata.name; with `model: {from: run://demo}` and `stages: []` it trains nothing"
SURE = Estimate(10.0, 9.9, 10.1, 1000, 40)
FEW = Estimate(2.0, 1.9, 2.1, 1000, 7)
BETWEEN = Estimate(2.9, 2.5, 3.2, 1000, 50)
TOO_NEAR = Estimate(3.0, 2.5, 3.5, 1000, 50)


def held(tokens: int = 1000, bytes_: Estimate = SURE, *, missing: str = "") -> str:
    """Returns what the condition of a run says that its gates left undecided."""
    world = World(a_run(gates=GATES))
    world.through("prepare", "learn", "export")
    evaluation = EvaluationResult(number=1, artifact_digest=DIGEST, scored_tokens=tokens, estimates=[SURE, bytes_])
    metrics = {"perplexity": 10.0, "bits_per_byte": bytes_.value}
    found = {name: value for name, value in metrics.items() if name != missing}
    world.succeed("evaluate", metrics=found, missing={missing: "is nan"} if missing else {}, evaluation=evaluation)
    world.settle()
    assert world.phase is Phase.HELD
    progressing, passed = world.condition("Progressing"), world.condition("Passed")
    assert progressing.reason == "Held"
    return progressing.message.removeprefix(f"could not be judged: {passed.message}; ")


@pytest.mark.parametrize(
    ("measured", "fix"),
    [
        ({"tokens": 99, "bytes_": FEW}, f"{ROWS}, {AGAIN}"),
        ({"bytes_": FEW}, f"{ROWS}, {AGAIN}"),
        ({"bytes_": BETWEEN}, f"{ROWS}, {AGAIN}"),
        ({"bytes_": TOO_NEAR}, f"ask for more or for less, {AGAIN}"),
        ({"tokens": 99, "bytes_": TOO_NEAR}, f"{ROWS}, ask for more or for less, {AGAIN}"),
        ({"missing": "perplexity", "bytes_": BETWEEN}, f"{ROWS}, mend the cause, {AGAIN}"),
    ],
    ids=["tokens", "documents", "between", "too near", "two of them", "and a cause"],
)
def test_what_rests_on_the_rows_of_a_run_is_not_judged_again_on_the_same(measured, fix):
    assert held(**measured) == fix


def test_what_has_a_cause_is_judged_again_once_that_is_mended():
    said = held(missing="perplexity", bytes_=Estimate(2.0, 1.9, 2.1, 1000, 40))
    assert said == f"mend the cause, then set the annotation {REEVALUATE_ANNOTATION} to a new value"


def test_of_a_gate_that_says_no_reason_nobody_knows_that_rows_would_help():
    metric = MetricStatus(name="perplexity", threshold="<= 20", verdict=Verdict.INCONCLUSIVE)
    assert of_gate(metric) is Remedy.CAUSE


def test_an_evaluation_that_crashed_is_made_again():
    world = World(a_run(retries=0))
    world.through("prepare", "learn", "export")
    world.fail("evaluate")
    world.settle()
    assert REEVALUATE_ANNOTATION in world.condition("Progressing").message
