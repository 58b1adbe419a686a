"""What an endpoint asks of a new version beyond a pass: gates that are strict enough, and somebody's approval."""

from typing import Any

import pytest
from tests.unit.core.endpoint_world import EndpointWorld, an_endpoint, digest

from slipway_core.protocol.trust import Flaw
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.required_gates import PassedGate
from slipway_core.rollout.observed import Judged, Proof
from slipway_core.rollout.promotion import approval_on
from slipway_core.rollout.revision import revision_of

REQUIRED = {"requiredGates": [{"metric": "perplexity", "max": 20, "minTokens": 100}]}
APPROVAL = {"mode": "Approval"}
RUN, NEXT_RUN = "uid-of-demo", "uid-of-the-next-run"


def judged_by(max_: float, **fields: Any) -> Judged:
    gate = {"metric": "perplexity", "max": max_, "minTokens": 100, "confidence": 0.95, **fields}
    return Judged("demo", 3, (PassedGate(Gate.model_validate(gate, by_alias=True, by_name=False)),), RUN)


def a_world(model: str | None = "a", **promotion: Any) -> EndpointWorld:
    """An endpoint that asks for something, and both models are judged by what REQUIRED asks."""
    world = EndpointWorld(an_endpoint(model, promotion=promotion))
    world.judged = {digest(letter): judged_by(20.0) for letter in "ab"}
    return world


def held_back(world: EndpointWorld, type_: str, reason: str) -> str:
    """The endpoint starts nothing new, and says why. Returns its words."""
    world.events.clear()
    decision = world.settle()
    assert (world.candidate, decision.status) == (None, world.decide().status), "it holds back, and is at rest"
    found = world.condition(type_)
    assert (found.status, found.reason) == ("True", reason)
    assert world.events.count(reason) == 1, "it is told once"
    world.wait(60)
    assert world.decide().status == decision.status, "nor does time alone change what is said"
    return found.message


def approve(
    world: EndpointWorld, model: str = "a", evaluation: int = 3, user: str = "ada", run: str | None = RUN
) -> None:
    own = {"approved_run": run} if run is not None else {}
    world.annotate(approved_by=user, approved_digest=digest(model), approved_evaluation=str(evaluation), **own)


def at_rest(world: EndpointWorld) -> None:
    assert [world.condition(type_) for type_ in ("LacksRequiredGate", "AwaitingApproval", "ApprovalRefused")] == [
        None, None, None,
    ]  # fmt: skip
    assert world.status.awaiting_approval is None


# ------------------------------------------------------------------------------------------------ required gates


def test_A_a_model_that_was_judged_by_less_than_is_required_does_not_start():
    world = a_world(**REQUIRED)
    world.judged[digest("a")] = judged_by(1e9)
    message = held_back(world, "LacksRequiredGate", "GateWeaker")
    assert "perplexity, max 20: max is 1000000000, and must be at most 20" in message
    assert "`stages: []` judges a model as it is" in message
    assert world.started == []
    world.judged[digest("a")] = judged_by(20.0)
    assert world.goes_live() == 1
    at_rest(world)


def test_A_a_model_that_was_judged_by_something_else_does_not_start():
    world = a_world(**REQUIRED)
    world.judged[digest("a")] = judged_by(20.0, source="web")
    assert "perplexity, max 20: no gate asks that" in held_back(world, "LacksRequiredGate", "GateMissing")
    world.judged[digest("a")] = judged_by(1e9)
    held_back(world, "LacksRequiredGate", "GateWeaker")
    both = {"requiredGates": [*REQUIRED["requiredGates"], {"metric": "empty_rate", "max": 0.1}]}
    world.ask_for("a", promotion=both)
    message = held_back(world, "LacksRequiredGate", "GateMissing")
    assert "max is 1000000000" in message
    assert "empty_rate, max 0.1: no gate asks that" in message


def test_A_a_pass_of_which_no_gates_are_known_is_not_enough_nor_is_accept_unjudged():
    world = a_world(**REQUIRED)
    world.judged = {}
    assert "nothing says by which gates" in held_back(world, "LacksRequiredGate", "GatesUnknown")
    unjudged = EndpointWorld(an_endpoint("c", accept_unjudged=True, promotion=REQUIRED))
    assert "acceptUnjudged does not help" in held_back(unjudged, "LacksRequiredGate", "GatesUnknown")


def test_A_a_model_whose_own_code_ran_where_it_was_judged_does_not_start_and_is_told_why():
    world = a_world(**REQUIRED)
    world.judged[digest("a")] = Judged("demo", 3, (), remote_code=True)
    message = held_back(world, "LacksRequiredGate", "RemoteCode")
    assert "model.trustRemoteCode" in message
    asked = a_world(**APPROVAL)
    asked.judged[digest("a")] = Judged("demo", 3, (), remote_code=True)
    assert "its own code ran" in held_back(asked, "AwaitingApproval", "NotApproved"), "whoever approves knows it"
    assert asked.status.awaiting_approval.remote_code
    asked.judged[digest("a")] = Judged("demo", 4)
    asked.settle()
    assert "own code" not in asked.condition("AwaitingApproval").message
    assert not asked.status.awaiting_approval.remote_code


def test_B_what_is_live_stays_when_more_is_required_and_nothing_new_of_it_starts():
    world = EndpointWorld(an_endpoint("a"))
    world.goes_live()
    world.judged = {digest("a"): judged_by(1e9), digest("b"): judged_by(20.0)}
    world.ask_for("a", promotion=REQUIRED)
    world.settle()
    assert (world.live, world.candidate) == (1, None)
    at_rest(world)
    world.ask_for("a", promotion=REQUIRED, limits={"maxQueue": 1})
    held_back(world, "LacksRequiredGate", "GateWeaker")
    assert world.live == 1
    world.ask_for("b", promotion=REQUIRED)
    assert world.goes_live() == 2
    # A rollback is a new version too.
    world.ask_for("b", promotion=REQUIRED, rollbackTo=1)
    held_back(world, "LacksRequiredGate", "GateWeaker")
    assert world.live == 2


def test_A_a_candidate_that_has_no_traffic_yet_is_dropped_when_more_is_required():
    world = EndpointWorld(an_endpoint("a"))
    world.goes_live()
    world.ask_for("b")
    world.settle()
    assert world.candidate == 2
    world.ask_for("b", promotion=REQUIRED)
    world.settle()
    assert (world.live, world.candidate) == (1, None)
    assert world.remembered(2).message == "spec.promotion asks for more than it has"


@pytest.mark.parametrize("asked", [REQUIRED, APPROVAL])
def test_A_nor_does_it_go_on_while_the_spec_names_no_version_that_there_is(asked):
    """Whoever may not change spec.promotion may still write rollbackTo."""
    world = EndpointWorld(an_endpoint("a"))
    world.goes_live()
    world.ask_for("b")
    world.settle()
    world.ask_for("b", promotion=asked, rollbackTo=999)
    world.settle()
    assert (world.live, world.candidate) == (1, None)
    assert world.remembered(2).message == "spec.promotion asks for more than it has"
    at_rest(world)


def test_an_approved_candidate_goes_on_while_the_spec_names_no_version_that_there_is():
    world = a_world(**APPROVAL)
    approve(world)
    world.settle()
    assert world.candidate == 1
    world.ask_for("a", promotion=APPROVAL, rollbackTo=999)
    world.settle()
    assert world.candidate == 1


def test_A_a_regression_that_was_compared_with_nothing_is_none_beside_a_live_version():
    required = {"requiredGates": [{"metric": "perplexity", "maxRegression": 0.1}]}
    gate = Gate(metric="perplexity", max_regression=0.1, confidence=0.95)
    world = a_world("a", **required)
    world.judged = {digest(letter): Judged("demo", 1, (PassedGate(gate, compared=False),)) for letter in "ab"}
    assert world.goes_live() == 1, "on the first rollout there is nothing to be worse than"
    world.ask_for("a", promotion=required, limits={"maxQueue": 1})
    assert world.goes_live() == 2, "nor is a model worse than itself"
    world.ask_for("b", promotion=required)
    assert "no version was live to compare with" in held_back(world, "LacksRequiredGate", "GateWeaker")


REGRESSION = {"metric": "perplexity", "maxRegression": 0.1}
COMPARED = Gate(metric="perplexity", max_regression=0.1, confidence=0.95)
BOTH = {"requiredGates": [*REQUIRED["requiredGates"], REGRESSION]}


def a_first_version_and_its_successor() -> EndpointWorld:
    """a went live when nothing was, so that it was compared with nothing; b was compared with it."""
    world = a_world("a", **BOTH)
    (absolute,) = judged_by(20.0).gates
    alone = (absolute, PassedGate(COMPARED, compared=False))
    world.judged = {
        digest("a"): Judged("first", 1, alone, "uid-of-first"),
        digest("b"): Judged("second", 1, (absolute, PassedGate(COMPARED, beside=digest("a"))), "uid-of-second"),
        digest("c"): Judged("third", 1, alone, "uid-of-third"),
    }
    assert world.goes_live() == 1
    world.ask_for("b", promotion=BOTH)
    assert world.goes_live() == 2
    return world


def test_the_first_version_comes_back_though_nothing_was_live_to_compare_it_with():
    world = a_first_version_and_its_successor()
    world.ask_for("b", promotion=BOTH, rollbackTo=1)
    assert world.goes_live() == 3
    assert world.status.live.digest == digest("a")
    at_rest(world)


def test_the_model_of_an_earlier_version_comes_back_by_hand_too():
    world = a_first_version_and_its_successor()
    world.ask_for("a", promotion=BOTH)
    assert world.goes_live() == 3


def test_A_a_model_that_never_served_here_does_not_come_in_as_one_that_comes_back():
    world = a_first_version_and_its_successor()
    world.passed = {*world.passed, digest("c")}
    world.ask_for("c", promotion=BOTH)
    assert "no version was live to compare with" in held_back(world, "LacksRequiredGate", "GateWeaker")
    world.ask_for("b", promotion=BOTH, rollbackTo=7)
    world.settle()
    assert (world.live, world.candidate) == (2, None), "a version that there never was"


def test_A_a_model_that_failed_before_it_was_live_has_not_served_here():
    world = a_first_version_and_its_successor()
    world.passed = {*world.passed, digest("c")}
    world.ask_for("c")
    world.settle()
    world.crashes(3)
    world.settle()
    assert world.remembered(3).state == "Failed"
    world.ask_for("c", promotion=BOTH, limits={"maxQueue": 1})
    held_back(world, "LacksRequiredGate", "GateWeaker")


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (judged_by(1e9).gates, "GateWeaker"),  # What is asked of the model itself is asked of one that comes back.
        ((PassedGate(COMPARED, compared=False),), "GateMissing"),
    ],
)
def test_A_a_version_that_comes_back_has_what_is_asked_of_the_model_itself(first, reason):
    world = a_first_version_and_its_successor()
    world.judged[digest("a")] = Judged("first", 1, first, "uid-of-first")
    world.ask_for("b", promotion=BOTH, rollbackTo=1)
    held_back(world, "LacksRequiredGate", reason)
    assert world.live == 2


def test_A_a_version_that_nobody_judged_does_not_come_back_where_gates_are_required():
    world = EndpointWorld(an_endpoint("c", accept_unjudged=True))
    world.goes_live()
    world.judged = {digest("b"): Judged("second", 1, (PassedGate(COMPARED, beside=digest("c")),), "uid")}
    only = {"requiredGates": [REGRESSION]}
    world.ask_for("b", promotion=only)
    assert world.goes_live() == 2
    world.ask_for("b", promotion=only, rollbackTo=1)
    held_back(world, "LacksRequiredGate", "GatesUnknown")


REVOKED = Proof(False, flaw=Flaw.KEY_REVOKED, why="the statement is signed by the key 'old', which is revoked")


def test_A_a_version_that_a_revoked_key_let_in_is_none_that_comes_back():
    """Whoever had the key wrote the verdict by which it was live: it is a newcomer as any other."""
    world = a_world("a", **BOTH)
    (absolute,) = judged_by(20.0).gates
    world.judged = {digest("a"): Judged("forged", 1, (absolute, PassedGate(COMPARED, compared=False)), "uid-of-none")}
    world.sign("a", Proof(True, signed_by="old"))
    world.goes_live()
    world.sign("a", REVOKED)
    world.revoked.add("old")
    world.settle()
    assert (world.live, world.remembered(1).state) == (None, "Retired")
    world.judged = {
        digest("a"): Judged("lax", 1, (absolute,), NEXT_RUN),
        digest("b"): Judged("second", 1, (absolute, PassedGate(COMPARED, compared=False)), "uid-of-second"),
    }
    world.sign("b", Proof(True, signed_by="new"))
    world.ask_for("b", promotion=BOTH)
    world.goes_live()
    world.sign("a", Proof(True, signed_by="new"))
    world.ask_for("b", promotion=BOTH, rollbackTo=1)
    assert "maxRegression 0.1 against Live: no gate asks that" in held_back(world, "LacksRequiredGate", "GateMissing")
    assert world.live == 2


# ------------------------------------------------------------------------------------------------ approval


def test_A_a_model_waits_for_an_approval_and_its_version_remembers_whose():
    world = a_world(**APPROVAL, **REQUIRED)
    message = held_back(world, "AwaitingApproval", "NotApproved")
    assert f"`slipway approve endpoint/chat --digest {digest('a')}`" in message
    awaiting = world.status.awaiting_approval
    assert (awaiting.digest, awaiting.run, awaiting.run_uid, awaiting.evaluation) == (digest("a"), "demo", RUN, 3)
    approve(world)
    assert world.goes_live() == 1
    at_rest(world)
    approval = world.status.live.approval
    assert (approval.user, approval.run, approval.run_uid, approval.evaluation) == ("ada", "demo", RUN, 3)


@pytest.mark.parametrize(
    "notes",
    [
        {"approved_digest": digest("b")},
        {"approved_evaluation": "2"},
        {"approved_evaluation": "three"},
        {"approved_evaluation": "³"},
        {"approved_evaluation": "３"},
        {"approved_evaluation": "3" + "0" * 9},
        {"approved_by": ""},
        {"approved_run": NEXT_RUN},
        {"approved_run": "demo"},
        {"approved_run": ""},
    ],
)
def test_A_an_approval_of_anything_else_counts_for_nothing(notes):
    world = a_world(**APPROVAL)
    whole = {
        "approved_by": "ada", "approved_digest": digest("a"), "approved_evaluation": "3", "approved_run": RUN,
    }  # fmt: skip
    world.annotate(**{**whole, **notes})
    held_back(world, "AwaitingApproval", "NotApproved")
    world.annotate(**whole)
    assert world.goes_live() == 1


def test_A_an_approval_of_an_earlier_release_that_names_no_run_counts_for_none():
    world = a_world(**APPROVAL)
    approve(world, run=None)
    held_back(world, "AwaitingApproval", "NotApproved")


@pytest.mark.parametrize(
    "notes",
    [
        {"approved_by": "ada", "approved_digest": digest("a")},
        {"approved_by": "ada", "approved_evaluation": "3"},
        {"approved_digest": digest("a"), "approved_evaluation": "3"},
        {"approved_by": "ada", "approved_digest": digest("a"), "approved_evaluation": "3" * 10},
    ],
)
def test_A_an_approval_that_is_not_whole_is_none(notes):
    world = a_world(**APPROVAL)
    world.annotate(**notes)
    assert approval_on(world.endpoint) is None


def test_an_approval_that_nobody_asked_for_is_not_recorded():
    world = a_world(mode="Automatic")
    approve(world)
    world.goes_live()
    assert world.status.live.approval is None


def test_A_gates_come_before_an_approval():
    world = a_world(**APPROVAL, **REQUIRED)
    world.judged[digest("a")] = judged_by(1e9)
    approve(world)
    held_back(world, "LacksRequiredGate", "GateWeaker")
    assert world.status.awaiting_approval is None, "nobody is asked about a model that would not start"


def test_what_an_endpoint_waits_for_takes_the_place_of_what_it_lacked():
    world = a_world(**APPROVAL, **REQUIRED)
    world.judged[digest("a")] = judged_by(1e9)
    held_back(world, "LacksRequiredGate", "GateWeaker")
    world.judged[digest("a")] = judged_by(20.0)
    held_back(world, "AwaitingApproval", "NotApproved")
    assert world.condition("LacksRequiredGate") is None
    world.guarded = False
    held_back(world, "ApprovalRefused", "NotGuarded")
    assert world.condition("AwaitingApproval") is None


def test_A_an_approval_is_of_one_judgement():
    world = a_world(**APPROVAL)
    approve(world)
    world.judged[digest("a")] = Judged("demo", 4, (), RUN)
    held_back(world, "AwaitingApproval", "NotApproved")
    assert world.status.awaiting_approval.evaluation == 4


def test_A_an_approval_is_of_one_run_whatever_the_next_one_of_that_name_numbers():
    """The first judgement of another run has the same number, of the same model; so has one of a run that was deleted
    and made anew under its name."""
    world = a_world(**APPROVAL)
    approve(world)
    world.judged[digest("a")] = Judged("demo", 3, (), NEXT_RUN)
    held_back(world, "AwaitingApproval", "NotApproved")
    assert world.status.awaiting_approval.run_uid == NEXT_RUN
    approve(world, run=NEXT_RUN)
    assert world.goes_live() == 1
    assert world.status.live.approval.run_uid == NEXT_RUN


def test_A_an_approval_of_a_judgement_that_was_taken_back_is_none_of_the_next():
    """What was approved never had any traffic: another run's pass is another judgement, which nobody has seen."""
    world = a_world(**APPROVAL)
    approve(world)
    world.settle()
    assert world.candidate == 1
    world.passed.discard(digest("a"))
    world.settle()
    assert world.remembered(1).state == "Dropped"
    world.passed.add(digest("a"))
    world.judged[digest("a")] = Judged("lax", 1, (), NEXT_RUN)
    held_back(world, "AwaitingApproval", "NotApproved")
    assert world.status.awaiting_approval.run_uid == NEXT_RUN


@pytest.mark.parametrize("number", [1, 3])
def test_A_nor_is_it_where_the_next_judgement_passed_before_anybody_looked(number: int):
    """Between two passes one judgement took the approved one back, and another one passed: the pass shows nothing else
    than that another judgement counts."""
    world = a_world(**APPROVAL)
    approve(world)
    world.settle()
    assert world.candidate == 1
    world.judged[digest("a")] = Judged("lax", number, (), NEXT_RUN)
    held_back(world, "AwaitingApproval", "NotApproved")
    assert world.status.awaiting_approval.run_uid == NEXT_RUN
    dropped = world.remembered(1)
    assert (dropped.state, dropped.message) == ("Dropped", "it was judged anew since it was approved")
    approve(world, evaluation=number, run=NEXT_RUN)
    assert world.goes_live() == 2
    assert world.status.live.approval.run_uid == NEXT_RUN


def test_A_nor_while_the_spec_names_no_version_that_there_is():
    world = a_world(**APPROVAL)
    approve(world)
    world.settle()
    world.judged[digest("a")] = Judged("demo", 4, (), RUN)
    world.ask_for("a", promotion=APPROVAL, rollbackTo=999)
    world.settle()
    assert world.remembered(1).message == "it was judged anew since it was approved"
    at_rest(world)


def test_A_an_approved_candidate_that_lacks_a_gate_by_now_is_dropped_for_that():
    world = a_world(**APPROVAL)
    approve(world)
    world.settle()
    world.ask_for("a", promotion={**APPROVAL, "requiredGates": [{"metric": "empty_rate", "max": 0.1}]})
    world.settle()
    assert world.remembered(1).message == "spec.promotion asks for more than it has"


def test_a_candidate_under_way_goes_on_by_the_approval_of_its_next_judgement():
    """Whoever saw the next judgement has approved it before anybody looked."""
    world = a_world(**APPROVAL)
    approve(world)
    world.settle()
    world.judged[digest("a")] = Judged("demo", 4, (), RUN)
    approve(world, evaluation=4, user="bob")
    world.settle()
    world.annotate()
    assert world.goes_live() == 1
    assert (world.status.live.approval.user, world.status.live.approval.evaluation) == ("bob", 4)


def test_A_an_approval_of_a_pass_lets_in_none_that_failed_since_and_is_accepted_unjudged():
    """Whoever approved it saw a pass. A failed model goes live by somebody's word too, but not by that one."""
    world = EndpointWorld(an_endpoint("a", accept_unjudged=True, promotion=APPROVAL))
    world.judged = {digest("a"): judged_by(20.0)}
    approve(world)
    world.settle()
    assert world.candidate == 1
    world.passed.discard(digest("a"))
    world.judged = {}
    held_back(world, "AwaitingApproval", "NotApproved")
    assert world.status.awaiting_approval.evaluation == 0


def test_an_approval_that_a_release_recorded_without_its_run_goes_on():
    world = a_world(**APPROVAL)
    approve(world)
    world.settle()
    candidate = world.status.candidate
    approval = candidate.approval.model_copy(update={"run": None, "run_uid": None})
    status = world.status.model_copy(update={"candidate": candidate.model_copy(update={"approval": approval})})
    world.endpoint = world.endpoint.model_copy(update={"status": status})
    world.annotate()
    assert world.goes_live() == 1


def a_world_by_a_revoked_key(*, live: bool) -> EndpointWorld:
    """What the key `old` signed was approved, and is live or on its way as the key is revoked."""
    world = a_world(**APPROVAL)
    world.sign("a", Proof(True, signed_by="old"))
    approve(world)
    world.settle()
    if live:
        world.goes_live()
    world.revoked.add("old")
    if live:
        world.sign("a", REVOKED)
        world.settle()
    return world


@pytest.mark.parametrize("live", [True, False])
def test_A_an_approval_of_what_a_revoked_key_signed_is_none_of_the_next_judgement(live):
    """They approved figures that whoever had the key may have written."""
    world = a_world_by_a_revoked_key(live=live)
    world.sign("a", Proof(True, signed_by="new"))
    world.judged[digest("a")] = Judged("lax", 1, (), NEXT_RUN)
    held_back(world, "AwaitingApproval", "NotApproved")
    assert (world.live, world.status.awaiting_approval.run_uid) == (None, NEXT_RUN)


@pytest.mark.parametrize("live", [True, False])
def test_an_approval_goes_on_where_the_same_judgement_is_signed_anew(live):
    world = a_world_by_a_revoked_key(live=live)
    world.sign("a", Proof(True, signed_by="new"))
    world.goes_live()
    assert world.status.live.approval.user == "ada"


def test_an_approved_model_needs_no_other_approval_for_other_settings_and_for_a_rollback():
    world = a_world(**APPROVAL)
    approve(world)
    world.goes_live()
    world.ask_for("b", promotion=APPROVAL)
    approve(world, "b")
    assert world.goes_live() == 2
    world.annotate()
    world.ask_for("b", promotion=APPROVAL, limits={"maxQueue": 1})
    assert world.goes_live() == 3
    world.ask_for("b", promotion=APPROVAL, limits={"maxQueue": 1}, rollbackTo=1)
    assert world.goes_live() == 4
    assert world.status.live.approval.user == "ada"


def test_an_approval_is_remembered_behind_a_version_for_which_none_was_asked():
    world = a_world(**APPROVAL)
    approve(world)
    world.goes_live()
    world.annotate()
    world.ask_for("a", limits={"maxQueue": 1})
    assert world.goes_live() == 2
    assert world.status.live.approval is None
    world.ask_for("a", promotion=APPROVAL, limits={"maxQueue": 2})
    assert world.goes_live() == 3
    assert world.status.live.approval.user == "ada"


def test_B_what_was_live_before_approvals_were_asked_for_stays_and_waits_for_one_to_come_back():
    world = EndpointWorld(an_endpoint("a"))
    world.goes_live()
    world.judged = {digest(letter): judged_by(20.0) for letter in "ab"}
    world.ask_for("b", promotion=APPROVAL)
    held_back(world, "AwaitingApproval", "NotApproved")
    assert world.live == 1
    approve(world, "b")
    world.goes_live()
    world.ask_for("b", promotion=APPROVAL, rollbackTo=1)
    approve(world, "b")
    world.settle()
    assert (world.live, world.candidate) == (2, None)
    assert world.status.awaiting_approval.digest == digest("a")


def test_a_candidate_under_way_stays_when_the_next_approval_takes_the_place_of_its_own():
    world = a_world(**APPROVAL)
    approve(world)
    world.settle()
    assert world.candidate == 1
    approve(world, "b")
    world.settle()
    assert world.candidate == 1


def test_A_where_nothing_guards_approvals_none_counts_and_a_condition_says_so():
    world = a_world(**APPROVAL)
    world.guarded = False
    approve(world)
    message = held_back(world, "ApprovalRefused", "NotGuarded")
    assert "admissionPolicies.enabled" in message
    assert world.status.awaiting_approval is None
    world.ask_for("a", promotion={"mode": "Automatic"})
    assert world.goes_live() == 1
    at_rest(world)


def test_a_model_that_nobody_judged_can_be_approved_where_no_gates_are_required():
    world = EndpointWorld(an_endpoint("c", accept_unjudged=True, promotion=APPROVAL))
    held_back(world, "AwaitingApproval", "NotApproved")
    awaiting = world.status.awaiting_approval
    assert (awaiting.evaluation, awaiting.run, awaiting.run_uid) == (0, None, None)
    approve(world, "c", evaluation=0)
    world.settle()
    assert world.candidate is None, "it is of a run, and nobody knows of one"
    approve(world, "c", evaluation=0, run="")
    assert world.goes_live() == 1, "an annotation that says nothing is none"
    assert world.status.live.approval.run_uid is None


def test_what_an_endpoint_asks_makes_no_other_version():
    bare, asking = an_endpoint("a"), an_endpoint("a", promotion={**APPROVAL, **REQUIRED})
    model = bare.spec.model
    assert model is not None
    assert revision_of(model, bare.spec) == revision_of(model, asking.spec)
