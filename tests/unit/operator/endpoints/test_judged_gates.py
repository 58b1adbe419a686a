"""A: what an endpoint asks of a model is held against what signed statements say that it passed."""

from typing import Any

import pytest
from tests.unit.core.statements import OTHER_KEY
from tests.unit.operator.served_world import NAMESPACE, ServedWorld, digest

from slipway_core.protocol.statement import AskedOfIt, JudgedGate
from slipway_core.resources.status import Verdict
from slipway_operator.kube import kinds
from slipway_operator.settings import Settings

REQUIRED = {"requiredGates": [{"metric": "perplexity", "max": 20}]}
APPROVAL = {"mode": "Approval"}


def gate(max_: float, verdict: Verdict = Verdict.PASS, **more: Any) -> JudgedGate:
    asked = AskedOfIt(max=max_, confidence=0.95)
    return JudgedGate(**{"metric": "perplexity", "threshold": "<= 20", "verdict": verdict, "asked": asked, **more})


def a_world(*, guarded: bool = True) -> ServedWorld:
    return ServedWorld(settings=Settings(admission_policies=guarded))


def approve(world: ServedWorld, model: str, evaluation: int, run: str) -> None:
    own = {"approved-by": "ada", "approved-digest": digest(model), "approved-evaluation": str(evaluation)}
    world.annotate(**own, **{"approved-run": run})


def test_A_a_model_goes_live_by_what_a_statement_says_that_it_passed():
    world = a_world()
    world.signed("a", gates=[gate(1e9)])
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "GateWeaker")
    world.signed("a", run="again", gates=[gate(20.0)])
    world.settle()
    assert world.deployed() == [1], "another run has judged the same model by stricter gates"


def test_A_a_pass_in_which_the_models_own_code_ran_answers_nothing_and_hides_no_other():
    world = a_world()
    world.signed("a", gates=[gate(20.0)], remote_code=True)
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "RemoteCode")
    world.signed("a", run="plain", gates=[gate(20.0)])
    world.signed("a", run="own-code-again", gates=[gate(20.0)], remote_code=True)
    world.settle()
    assert world.deployed() == [1], "the newest asked the same, and is the model's own word"


def test_A_a_task_answers_what_is_required_of_that_task_and_nothing_else():
    required = {"metric": "exact_match", "min": 0.7}
    of_task = {"metric": "exact_match", "task": "sums", "asked": AskedOfIt(min=0.7, confidence=0.95)}
    world = a_world()
    world.signed("a", gates=[gate(0.0, **of_task)])
    world.serve("a", promotion={"requiredGates": [required]})
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "GateMissing")
    world.serve("a", promotion={"requiredGates": [{**required, "task": "sums"}]})
    world.settle()
    assert world.deployed() == [1]


def test_A_a_gate_on_named_data_is_answered_by_a_statement_that_names_the_same():
    poems, easy = "sha256:" + "c" * 64, "sha256:" + "d" * 64
    world = a_world()
    world.signed("a", gates=[gate(20.0, data=easy)])
    world.serve("a", promotion={"requiredGates": [{**REQUIRED["requiredGates"][0], "data": poems}]})
    world.settle()
    assert world.deployed() == []
    assert f"it is measured on {easy}, and must be on {poems}" in world.condition("LacksRequiredGate")["message"]
    world.signed("a", run="again", gates=[gate(20.0, data=poems)])
    world.settle()
    assert world.deployed() == [1]


def test_A_a_regression_from_another_endpoints_model_answers_nothing_here():
    required = {"requiredGates": [{"metric": "perplexity", "maxRegression": 0.1}]}
    no_worse = gate(0.0, asked=AskedOfIt(max_regression=0.1, confidence=0.95))
    world = a_world()
    world.passes("a")
    world.serve("a")
    world.goes_live()
    world.signed("b", gates=[no_worse], baseline=digest("c"))
    world.serve("b", promotion=required)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([1], "GateWeaker")
    assert f"compared with {digest('c')}, which was never live here" in world.condition("LacksRequiredGate")["message"]
    world.signed("b", run="here", gates=[no_worse], baseline=digest("a"))
    world.goes_live(2)


@pytest.mark.parametrize(
    "gates",
    [
        [],
        [gate(20.0, asked=None)],
        [gate(20.0, Verdict.INCONCLUSIVE)],
        [gate(20.0, asked=AskedOfIt())],
        [gate(20.0, metric="of_a_newer_release")],
    ],
)
def test_A_what_a_statement_does_not_say_or_did_not_pass_answers_nothing(gates):
    world = a_world()
    world.signed("a", gates=gates)
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "GatesUnknown")


def test_A_what_a_run_took_back_answers_nothing_when_another_run_lets_the_model_pass():
    world = a_world()
    world.signed("a", gates=[gate(20.0)])
    world.wait(60)
    world.signed("a", Verdict.FAIL, number=2, gates=[gate(20.0, Verdict.FAIL)])
    world.wait(60)
    world.signed("a", run="easy", gates=[gate(1e9)])
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "GateWeaker")


def test_A_what_no_trusted_key_signed_answers_nothing():
    world = a_world()
    world.signed("a", gates=[gate(1e9)])
    world.signed("a", run="forged", key=OTHER_KEY, gates=[gate(20.0)])
    world.serve("a", promotion=REQUIRED)
    world.settle()
    assert (world.deployed(), world.condition("LacksRequiredGate")["reason"]) == ([], "GateWeaker")


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


def test_A_a_model_waits_for_the_approval_of_its_newest_judgement():
    world = a_world()
    world.signed("a", number=7)
    world.serve("a", promotion=APPROVAL)
    world.settle()
    assert world.status["awaitingApproval"] == {
        "digest": digest("a"), "run": "run-a", "runUid": "run-a-0123", "evaluation": 7, "remoteCode": False,
    }  # fmt: skip
    approve(world, "a", 6, "run-a-0123")
    world.settle()
    assert world.deployed() == []
    world.wait(60)
    world.signed("a", number=7, run="later")
    approve(world, "a", 7, "run-a-0123")
    world.settle()
    assert world.deployed() == [], "another run's judgement has the same number, of the same model"
    assert world.status["awaitingApproval"]["runUid"] == "later-0123"
    approve(world, "a", 7, "later-0123")
    world.goes_live(1)
    approval = world.status["live"]["approval"]
    assert (approval["user"], approval["run"], approval["runUid"]) == ("ada", "later", "later-0123")
    assert "awaitingApproval" not in world.status


def test_A_the_status_says_of_what_waits_that_its_own_code_ran_where_it_was_judged():
    world = a_world()
    world.signed("a", remote_code=True)
    world.serve("a", promotion=APPROVAL)
    world.settle()
    assert world.status["awaitingApproval"]["remoteCode"] is True


def test_A_without_the_policies_no_approval_counts():
    world = a_world(guarded=False)
    world.passes("a")
    world.serve("a", promotion=APPROVAL)
    approve(world, "a", 1, "run-a-0123")
    world.settle()
    assert (world.deployed(), world.condition("ApprovalRefused")["reason"]) == ([], "NotGuarded")


def test_F_an_endpoint_that_holds_a_model_back_writes_nothing_more():
    world = a_world()
    world.signed("a", number=7, gates=[gate(1e9)])
    world.serve("a", promotion={**APPROVAL, **REQUIRED})
    world.settle()
    before = len(world.cluster.writes)
    world.settle()
    world.start_operator()
    world.settle()
    assert len(world.cluster.writes) == before
