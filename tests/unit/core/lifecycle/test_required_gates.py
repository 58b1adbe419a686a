"""What a run says and does whose endpoint asks for more than a pass."""

from dataclasses import replace

import pytest
from tests.unit.core.runs import DIGEST, OTHER_DIGEST, a_plan, a_run
from tests.unit.core.world import World

from slipway_core.lifecycle.annotations import RETRY_ANNOTATION
from slipway_core.lifecycle.observed import EndpointView
from slipway_core.lifecycle.required_gates import foreseen_answers
from slipway_core.protocol.step_result import EvaluationResult
from slipway_core.resources import conditions
from slipway_core.resources.promotion import Promotion, RequiredGate
from slipway_core.resources.status import AwaitingStatus, EndpointStatus, Phase, VersionStatus

ALL = ("prepare", "learn", "export", "evaluate")
STRICT = Promotion(required_gates=[RequiredGate(metric="perplexity", max=20.0, min_tokens=100)])
POEMS, EASY, HELD_OUT = ("sha256:" + letter * 64 for letter in "cde")
PINNED = Promotion(required_gates=[RequiredGate(metric="perplexity", max=20.0, min_tokens=100, data=POEMS)])
WEAK = [{"metric": "perplexity", "max": 1e9}]


def a_world(promotion: Promotion | None = STRICT, **spec) -> World:
    world = World(a_run(**spec))
    world.endpoint = EndpointView(promotion=promotion)
    return world


def asks(world: World, promotion: Promotion | None) -> None:
    world.endpoint = replace(world.endpoint, promotion=promotion)


def endpoint_says(world: World, type_: str, reason: str, message: str = "as it says", **status) -> None:
    """The endpoint has taken up what it was told."""
    own = conditions.put([], type_, "True", reason, message, world.now)
    was = world.endpoint.status
    world.endpoint = replace(world.endpoint, current=True, status=was.model_copy(update={"conditions": own, **status}))


def test_a_run_whose_gates_are_enough_is_promoted():
    world = a_world()
    world.through(*ALL)
    assert (world.phase, world.promotions, world.condition("LacksRequiredGate")) == (Phase.ROLLING_OUT, 1, None)


def test_a_run_whose_gates_are_too_weak_says_so_from_the_beginning_and_a_relaxed_endpoint_takes_that_back():
    world = a_world(gates=WEAK)
    world.settle()
    told = world.condition("LacksRequiredGate")
    assert told is not None
    assert (told.status, told.reason) == ("True", "GateWeaker")
    assert "endpoint chat requires gates that this run does not have" in told.message
    assert "max is 1000000000, and must be at most 20; minTokens is 1, and must be at least 100" in told.message
    assert sum(event.reason == "GateWeaker" for one in world.decisions for event in one.events) == 1
    asks(world, None)
    world.settle()
    assert world.condition("LacksRequiredGate") is None


def test_A_a_run_that_runs_the_models_own_code_says_from_the_beginning_that_its_gates_answer_nothing():
    world = a_world(model={"from": "pvc://models/own", "trustRemoteCode": True})
    world.settle()
    told = world.condition("LacksRequiredGate")
    assert told is not None
    assert told.reason == "RemoteCode"
    assert "model.trustRemoteCode" in told.message
    world.through(*ALL)
    live = world.condition("Live")
    assert (world.phase, world.promotions, live and live.reason) == (Phase.REJECTED, 0, "NotLetIn")


def test_a_run_that_was_compared_with_what_is_live_at_its_endpoint_is_promoted():
    gates = [{"metric": "perplexity", "max": 20}, {"metric": "perplexity", "maxRegression": 0.1}]
    world = a_world(Promotion(required_gates=[RequiredGate(metric="perplexity", max_regression=0.1)]), gates=gates)
    world.goes_live(OTHER_DIGEST)
    world.through(*ALL[:-1])
    beside = {"baseline_digest": OTHER_DIGEST, "baseline_metrics": {"perplexity": 10.0}}
    evaluation = EvaluationResult(number=1, artifact_digest=DIGEST, scored_tokens=1000, **beside)
    world.succeed("evaluate", evaluation=evaluation)
    world.settle()
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 1)


def test_A_a_run_that_asks_less_than_its_endpoint_is_rejected_and_tells_it_nothing():
    world = a_world(gates=WEAK)
    world.through(*ALL)
    live, progressing = world.condition("Live"), world.condition("Progressing")
    assert (world.phase, world.promotions) == (Phase.REJECTED, 0)
    assert (live.status, live.reason) == ("False", "NotLetIn")
    assert (progressing.status, progressing.reason) == ("False", "Rejected"), "its time to live begins"
    assert "in a run of another name, which may judge this model as it is (`stages: []`" in progressing.message
    assert world.condition("Passed").status == "True"
    assert world.condition("LacksRequiredGate") is None, "it is over, and Live says it"


def test_a_run_that_was_not_let_in_stays_so_when_less_is_asked_until_somebody_has_it_tried_again():
    world = a_world(gates=[*WEAK, {"metric": "perplexity", "maxRegression": 1, "minTokens": 1}])
    world.through(*ALL)
    asks(world, None)
    before = world.run.status
    world.settle()
    assert (world.run.status, world.promotions) == (before, 0)
    world.goes_live(OTHER_DIGEST)
    world.settle()
    assert (world.run.status, world.running()) == (before, []), "nor is it judged again for what is live by now"
    world.endpoint = EndpointView(current=False, unreadable="a field of a newer release")
    world.settle()
    assert world.run.status == before
    world.endpoint = EndpointView()
    metadata = world.run.metadata.model_copy(update={"annotations": {RETRY_ANNOTATION: "1"}})
    world.run = world.run.model_copy(update={"metadata": metadata})
    world.settle()
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 1)


def prepared_on(world: World, *digests: str) -> None:
    world.settle()
    world.succeed("prepare", held_out_digest=HELD_OUT, gate_data=list(digests))
    world.settle()


def judged(world: World) -> None:
    world.through("learn", "export")
    world.succeed(
        "evaluate",
        evaluation=EvaluationResult(number=1, artifact_digest=DIGEST, scored_tokens=1000, data_digest=HELD_OUT),
    )
    world.settle()


def test_a_run_says_nothing_of_its_data_before_that_is_known_and_is_promoted_by_the_right_one():
    world = a_world(PINNED)
    world.settle()
    assert world.condition("LacksRequiredGate") is None
    prepared_on(world, POEMS)
    assert world.condition("LacksRequiredGate") is None
    judged(world)
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 1)


def test_A_a_run_on_other_data_says_so_before_it_trains_and_is_not_let_in():
    """A text that any model knows is called as the one that is meant, and passed."""
    world = a_world(PINNED)
    prepared_on(world, EASY)
    told = world.condition("LacksRequiredGate")
    assert (told.status, told.reason) == ("True", "GateWeaker")
    assert f"perplexity, max 20 on {POEMS}: it is measured on {EASY}, and must be on {POEMS}" in told.message
    judged(world)
    assert (world.phase, world.promotions) == (Phase.REJECTED, 0)


def test_A_a_run_that_an_earlier_release_prepared_answers_no_gate_on_named_data():
    world = a_world(PINNED)
    prepared_on(world)
    judged(world)
    assert (world.phase, world.promotions) == (Phase.REJECTED, 0)
    assert f"no digest is known, since an earlier release judged or prepared it, and must be on {POEMS}" in (
        world.condition("Live").message
    )


def test_a_run_does_not_say_that_a_model_lacks_a_comparison_which_was_live_there_or_may_have_been():
    beside = Promotion(required_gates=[RequiredGate(metric="perplexity", max_regression=0.1)])
    trained, existing = a_world(beside), a_world(beside, model={"from": "run://first"}, stages=[])
    for world in (trained, existing):
        world.settle()
    assert trained.condition("LacksRequiredGate") is not None, "a model that is new has never been live"
    assert existing.condition("LacksRequiredGate") is None, "which it is shows when it is exported"
    existing.through("prepare", "export")
    assert existing.condition("LacksRequiredGate") is not None
    was = VersionStatus(version=1, uri="file:///it", digest=DIGEST, state="Retired", since="2026-01-01T00:00:00Z")
    existing.endpoint = replace(existing.endpoint, status=EndpointStatus(history=[was]))
    existing.settle()
    assert existing.condition("LacksRequiredGate") is None
    existing.through("evaluate")
    assert (existing.phase, existing.promotions) == (Phase.ROLLING_OUT, 1)


def test_on_a_first_rollout_nothing_can_be_worse_than_what_is_live():
    relative = Promotion(required_gates=[RequiredGate(metric="perplexity", max_regression=1.0)])
    gates = [{"metric": "perplexity", "max": 20}, {"metric": "perplexity", "maxRegression": 1}]
    world = a_world(relative, gates=gates)
    world.through(*ALL)
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 1)


# ------------------------------------------------------------------------------------------------ after it was told


def test_a_run_waits_for_an_approval_and_goes_on_once_it_is_given():
    world = a_world(Promotion(mode="Approval"))
    world.through(*ALL)
    endpoint_says(world, "AwaitingApproval", "NotApproved", awaiting_approval=AwaitingStatus(digest=DIGEST))
    world.settle()
    live = world.condition("Live")
    assert (world.phase, live.status, live.reason) == (Phase.AWAITING_APPROVAL, "False", "AwaitingApproval")
    assert f"`slipway approve demo --digest {DIGEST}`" in live.message
    assert not world.phase.finished, "no TTL counts while it waits"
    progressing = world.condition("Progressing")
    assert (progressing.status, progressing.reason) == ("True", "AwaitingApproval")
    world.endpoint = replace(world.endpoint, rollback_to=1)
    world.settle()
    assert world.phase is Phase.COMPLETED, "nobody is asked while another version is wanted back"
    world.endpoint = replace(world.endpoint, rollback_to=None)
    world.settle()
    assert world.phase is Phase.AWAITING_APPROVAL
    world.endpoint = replace(world.endpoint, status=EndpointStatus())
    world.settle()
    assert (world.phase, world.condition("Progressing").reason) == (Phase.ROLLING_OUT, "RollingOut")
    world.goes_live()
    world.settle()
    assert (world.phase, world.promotions) == (Phase.SERVING, 1)


def test_A_of_a_model_that_another_run_has_judged_since_the_run_names_the_endpoint_to_approve_at():
    world = a_world(Promotion(mode="Approval"))
    world.through(*ALL)
    for uid, command in ((world.plan.run.uid, "approve demo"), ("another", "approve endpoint/chat")):
        waits = AwaitingStatus(digest=DIGEST, run="lax", run_uid=uid, evaluation=1)
        endpoint_says(world, "AwaitingApproval", "NotApproved", awaiting_approval=waits)
        world.settle()
        message = world.condition("Live").message
        assert f"`slipway {command} --digest {DIGEST}`" in message
        assert ("the judgement of run lax, which has judged it since" in message) == (uid == "another")


def test_an_approval_that_another_model_waits_for_is_not_the_runs():
    world = a_world(Promotion(mode="Approval"))
    world.through(*ALL)
    endpoint_says(world, "AwaitingApproval", "NotApproved", awaiting_approval=AwaitingStatus(digest=OTHER_DIGEST))
    world.settle()
    assert world.phase is Phase.ROLLING_OUT


def test_A_a_run_says_that_nobody_can_approve_where_nothing_guards_approvals():
    world = a_world(Promotion(mode="Approval"))
    world.through(*ALL)
    endpoint_says(world, "ApprovalRefused", "NotGuarded", "turn on admissionPolicies.enabled")
    world.settle()
    live = world.condition("Live")
    assert (world.phase, live.reason) == (Phase.AWAITING_APPROVAL, "ApprovalRefused")
    assert "turn on admissionPolicies.enabled" in live.message


def test_a_run_whose_endpoint_requires_more_since_it_was_told_is_rejected_and_goes_on_when_it_does_not():
    world = a_world(None)
    world.through(*ALL)
    endpoint_says(world, "LacksRequiredGate", "GateWeaker", "max is 20")
    world.settle()
    assert (world.phase, world.condition("Live").reason) == (Phase.REJECTED, "NotLetIn")
    assert "requires more since it was told of it: max is 20" in world.condition("Live").message
    world.goes_live()
    world.settle()
    assert world.phase is Phase.SERVING


@pytest.mark.parametrize("promotion", [STRICT, Promotion(mode="Approval")])
def test_B_a_run_that_serves_goes_on_serving_whatever_its_endpoint_asks_by_now(promotion):
    world = a_world(None, gates=WEAK)
    world.through(*ALL)
    world.goes_live()
    world.settle()
    asks(world, promotion)
    world.settle()
    assert world.phase is Phase.SERVING


BITS = RequiredGate(metric="bits_per_byte", max=2.0, data=POEMS)


def foreseen(required: RequiredGate, gates: list[dict], data: list[str | None] | tuple[()] = (), **spec):
    (found,) = foreseen_answers(a_plan(a_run(gates=gates, **spec)), Promotion(required_gates=[required]), "chat", data)
    return found


@pytest.mark.parametrize(
    ("data", "answered", "says"),
    [
        ([EASY, POEMS], True, "evaluation.gates[1] answers it"),
        ([EASY, None], None, "evaluation.gates[1] answers it if it is measured on that: prepare tells"),
        ((), None, "evaluation.gates[1] answers it if it is measured on that: prepare tells"),
        ([EASY, EASY], False, f"it is measured on {EASY}, and must be on {POEMS}"),
    ],
)
def test_A_it_is_foreseen_whether_a_gate_answers_a_required_one_on_the_data_that_it_names(data, answered, says):
    gates = [{"metric": "perplexity", "max": 20}, {"metric": "bits_per_byte", "max": 1.5}]
    found = foreseen(BITS, gates, data)
    assert (found.gate, found.answered) == (f"bits_per_byte, max 2 on {POEMS}", answered)
    assert found.says == says


def test_A_it_is_foreseen_that_a_gate_is_too_weak_or_is_not_there():
    assert foreseen(BITS, [{"metric": "bits_per_byte", "max": 3}], [POEMS]).says == "max is 3, and must be at most 2"
    missing = foreseen(BITS, [{"metric": "perplexity", "max": 20}], [POEMS])
    assert (missing.answered, missing.says) == (False, "no gate asks that")
    both = [{"metric": "bits_per_byte", "max": 3}, {"metric": "bits_per_byte", "max": 2}]
    assert foreseen(BITS, both, [POEMS, POEMS]).says == "evaluation.gates[1] answers it"


def test_A_what_compares_with_the_live_version_is_asked_of_a_model_that_exists_where_it_was_never_live():
    required = RequiredGate(metric="perplexity", max_regression=0.1)
    gates = [{"metric": "perplexity", "max": 20}]
    assert foreseen(required, gates).answered is False
    exists = foreseen(required, gates, stages=[], model={"from": "pvc://models/own"})
    assert exists.answered is None
    assert "asked of a model that was never live there, and then not answered: no gate asks that" in exists.says
    compared = foreseen(required, [*gates, {"metric": "perplexity", "maxRegression": 0.1}])
    assert compared.says == "evaluation.gates[1] answers it"


def test_A_nothing_is_foreseen_to_be_answered_where_the_models_own_code_runs():
    own = {"from": "pvc://models/own", "trustRemoteCode": True}
    found = foreseen(BITS, [{"metric": "bits_per_byte", "max": 1}], [POEMS], model=own)
    assert (found.answered, "model.trustRemoteCode" in found.says) == (False, True)
