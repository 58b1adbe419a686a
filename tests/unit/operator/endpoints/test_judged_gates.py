"""A: what an endpoint asks of a model is held against what the signed statements on it say that it passed."""

from typing import Any

import pytest
from tests.unit.core.statements import OTHER_KEY
from tests.unit.operator.served_world import NAMESPACE, ServedWorld, digest

from slipway_core.lifecycle.judgement import stated
from slipway_core.protocol.statement import AskedOfIt, JudgedGate
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.required_gates import record_of
from slipway_core.resources.status import MetricStatus, Verdict
from slipway_operator.kube import kinds
from slipway_operator.settings import Settings

REQUIRED = {"requiredGates": [{"metric": "perplexity", "max": 20}]}
APPROVAL = {"mode": "Approval"}


def gate(max_: float, verdict: Verdict = Verdict.PASS) -> JudgedGate:
    asked = record_of(Gate(metric="perplexity", max=max_, confidence=0.95))
    return stated(MetricStatus(name="perplexity", threshold=f"<= {max_:g}", verdict=verdict, asked=asked))


def a_world(*, guarded: bool = True) -> ServedWorld:
    return ServedWorld(settings=Settings(admission_policies=guarded))


def approve(world: ServedWorld, model: str, evaluation: int) -> None:
    own = {"approved-by": "ada", "approved-digest": digest(model), "approved-evaluation": str(evaluation)}
    world.annotate(**own)


def test_A_a_model_goes_live_by_what_its_statement_says_that_it_passed():
    world = a_world()
    world.signed("a", gates=[gate(1e9)])
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "GateWeaker")
    world.signed("a", run="again", gates=[gate(20.0)])
    world.settle()
    assert world.deployed() == [1], "another run has judged the same model by stricter gates"


@pytest.mark.parametrize(
    "has",
    [
        [],
        [gate(20.0, Verdict.INCONCLUSIVE)],
        [gate(20.0).model_copy(update={"asked": None})],
        [gate(20.0).model_copy(update={"asked": AskedOfIt()})],
        [gate(20.0).model_copy(update={"asked": AskedOfIt(max=20.0, against="Tomorrow")})],
    ],
)  # fmt: skip
def test_A_what_cannot_be_read_or_did_not_pass_answers_nothing(has: list[JudgedGate]):
    world = a_world()
    world.signed("a", gates=has)
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "GatesUnknown")


def test_A_a_statement_that_does_not_hold_answers_nothing():
    world = a_world()
    world.signed("a", gates=[gate(1e9)])
    world.signed("a", run="forged", key=OTHER_KEY, gates=[gate(20.0)])
    world.signed("a", run="elsewhere", namespace="another", gates=[gate(20.0)])
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "GateWeaker")


def test_A_a_judgement_that_was_not_passed_says_nothing_of_the_model():
    world = a_world()
    world.signed("a", Verdict.FAIL, run="another", gates=[gate(20.0)])
    world.wait(60)
    world.signed("a", gates=[gate(1e9)])
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert world.deployed() == []


def test_B_a_version_comes_back_by_its_statement_when_its_run_is_gone():
    world = a_world()
    for model in "ab":
        world.judged(model)
        world.signed(model, gates=[gate(20.0)])
    world.serve("a", promotion=REQUIRED)
    world.goes_live(1)
    world.serve("b", promotion=REQUIRED)
    world.goes_live(2)
    for model in "ab":
        world.cluster.remove(kinds.TRAINING_RUN, NAMESPACE, f"run-{model}")
    world.start_operator()
    world.serve("b", promotion=REQUIRED, rollbackTo=1)
    world.goes_live(3)
    assert world.status["live"]["digest"] == digest("a")


# ------------------------------------------------------------------------------------------------ approval


def test_A_a_model_waits_for_the_approval_of_its_runs_own_evaluation():
    world = a_world()
    world.signed("a", number=7)
    world.serve("a", promotion=APPROVAL)
    world.settle()
    assert world.status["awaitingApproval"] == {"digest": digest("a"), "run": "run-a", "evaluation": 7}
    approve(world, "a", 6)
    world.settle()
    assert world.deployed() == []
    approve(world, "a", 7)
    world.goes_live(1)
    assert world.status["live"]["approval"]["user"] == "ada"
    assert "awaitingApproval" not in world.status


def test_what_waits_is_told_by_the_run_that_the_endpoint_has_it_of_and_else_by_the_newest_statement():
    world = a_world()
    world.signed("a", number=2)
    world.wait(60)
    world.signed("a", run="zz-another", number=9)
    world.serve("a", promotion=APPROVAL)
    world.settle()
    assert world.status["awaitingApproval"] == {"digest": digest("a"), "run": "zz-another", "evaluation": 9}
    endpoint: dict[str, Any] = world.endpoint
    model = {**endpoint["spec"]["model"], "run": "run-a"}
    world.cluster.put({**endpoint, "spec": {**endpoint["spec"], "model": model}})
    world.settle()
    assert world.status["awaitingApproval"] == {"digest": digest("a"), "run": "run-a", "evaluation": 2}


def test_A_without_the_policies_no_approval_counts():
    world = a_world(guarded=False)
    world.passes("a")
    world.serve("a", promotion=APPROVAL)
    approve(world, "a", 1)
    world.settle()
    assert (world.deployed(), world.condition("ApprovalRefused")["reason"]) == ([], "NotGuarded")


def test_F_an_endpoint_that_holds_a_model_back_writes_nothing_and_reads_nothing_more():
    world = a_world()
    world.signed("a", number=7, gates=[gate(1e9)])
    world.serve("a", promotion={**APPROVAL, **REQUIRED})
    world.settle()
    before = len(world.cluster.writes)
    world.settle()
    world.start_operator()
    world.settle()
    assert len(world.cluster.writes) == before
