from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.core.endpoint_world import EndpointWorld, an_endpoint, digest

from slipway_core.protocol.trust import Flaw
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.model_endpoint import EndpointTemplate, ServedModel
from slipway_core.resources.status import EndpointPhase
from slipway_core.rollout.observed import Proof, VersionView
from slipway_core.rollout.revision import revision_of


def a_live_world(**spec) -> EndpointWorld:
    """Version 1 with the model `a` is live and out of its probation."""
    world = EndpointWorld(an_endpoint("a", **spec))
    world.goes_live()
    return world


# ---------------------------------------------------------------------------------------------- to the first traffic


def test_the_first_version_starts_is_asked_and_takes_the_traffic():
    world = EndpointWorld(an_endpoint("a"))
    assert world.settle().probe is None
    assert world.events == ["CandidateStarting"]
    assert world.status.passed == digest("a"), "what a run may know"
    assert (world.candidate, world.phase, world.route) == (1, EndpointPhase.ROLLING_OUT, None)
    world.ready(1)
    assert world.settle().probe == 1
    world.answers(1)
    assert world.reconcile().route == 1
    assert "TookOver" in world.events
    assert (world.live, world.candidate, world.phase) == (1, None, EndpointPhase.ROLLING_OUT)
    world.settle()
    assert (world.live, world.candidate, world.phase) == (1, None, EndpointPhase.SERVING)
    assert world.condition("Ready").status == "True"
    assert world.status.url == "http://127.0.0.1:8000"


def test_a_pass_that_changes_nothing_decides_nothing():
    world = a_live_world()
    decision = world.decide()
    assert decision.status == world.status
    assert (decision.route, decision.stop, decision.events, decision.probe) == (None, (), (), None)


def test_an_endpoint_without_a_model_waits():
    world = EndpointWorld(an_endpoint(None))
    world.settle()
    assert (world.phase, world.running()) == (EndpointPhase.PENDING, set())


# --------------------------------------------------------------------------------------------------- A: the gate


def test_A_a_model_without_a_verdict_never_starts_until_it_has_one():
    world = EndpointWorld(an_endpoint("c"))
    world.settle()
    assert (world.started, world.status.passed) == ([], None)
    assert world.condition("Judged").reason == "NoPassingVerdict"
    assert digest("c") in world.condition("Judged").message
    world.passed.add(digest("c"))
    world.settle()
    assert world.started == [1]
    assert world.condition("Judged").status == "True"


def test_A_a_model_without_a_verdict_does_not_replace_the_live_one():
    world = a_live_world()
    world.ask_for("c")
    world.settle()
    assert (world.live, world.running(), world.phase) == (1, {1}, EndpointPhase.SERVING)


def test_A_an_accepted_model_starts_and_a_condition_shows_it_for_ever():
    world = EndpointWorld(an_endpoint("c", accept_unjudged=True))
    world.goes_live()
    for _ in range(3):
        world.wait(3600)
        world.settle()
        assert world.condition("Judged").reason == "AcceptedUnjudged"


def test_A_of_an_accepted_model_that_was_judged_and_did_not_pass_it_is_said():
    world = EndpointWorld(an_endpoint("c", accept_unjudged=True))
    world.sign("c", Proof(False, flaw=Flaw.NOT_PASSED, why="evaluation 2 of the run demo came out as Fail"))
    world.goes_live()
    judged = world.condition("Judged")
    assert (judged.status, judged.reason) == ("False", "AcceptedUnjudged")
    assert "evaluation 2 of the run demo came out as Fail" in judged.message


def test_A_a_rollback_needs_a_verdict_like_any_other_version():
    world = a_live_world()
    world.ask_for("b")
    world.goes_live()
    world.passed.discard(digest("a"))
    world.ask_for("b", rollbackTo=1)
    world.settle()
    assert (world.live, world.candidate) == (2, None)
    assert world.condition("Judged").reason == "NoPassingVerdict"


def test_A_a_rollback_to_a_version_that_was_accepted_without_a_verdict_needs_none():
    world = EndpointWorld(an_endpoint("c", accept_unjudged=True))
    world.goes_live()
    world.ask_for("b")
    world.goes_live()
    assert not world.status.live.accept_unjudged
    world.ask_for("b", rollbackTo=1)
    assert world.goes_live() == 3
    assert (world.status.live.digest, world.status.live.accept_unjudged) == (digest("c"), True)
    assert world.condition("Judged").reason == "AcceptedUnjudged"


def test_A_a_model_that_passed_is_not_marked_as_accepted_though_the_spec_accepts_it():
    world = EndpointWorld(an_endpoint("a", accept_unjudged=True))
    world.goes_live()
    assert not world.status.live.accept_unjudged, "or a rollback to it would need no verdict"
    world.ask_for("b")
    world.goes_live()
    world.passed.discard(digest("a"))
    world.ask_for("b", rollbackTo=1)
    world.settle()
    assert (world.live, world.candidate) == (2, None)


def test_A_a_candidate_whose_verdict_is_taken_back_does_not_take_over():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.passed.discard(digest("b"))
    world.ready(2)
    world.answers(2)
    world.settle()
    assert (world.live, world.candidate, world.route) == (1, None, 1)
    assert world.remembered(2).message == "its verdict was taken back"
    world.passed.add(digest("b"))
    assert world.goes_live() == 3


@pytest.mark.parametrize(("model", "rollback"), [("b", {"rollbackTo": 99}), (None, {})], ids=["unknown", "none"])
def test_A_nor_does_one_while_the_spec_names_no_version_that_there_is(model, rollback):
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.ask_for(model, **rollback)
    world.settle()
    assert world.candidate == 2, "what was on its way goes on"
    world.passed.discard(digest("b"))
    world.ready(2)
    world.answers(2)
    world.settle()
    assert (world.live, world.candidate, world.route) == (1, None, 1)
    assert world.remembered(2).message == "its verdict was taken back"


def test_an_accepted_candidate_goes_on_while_the_spec_names_no_version_that_there_is():
    world = a_live_world()
    world.ask_for("c", accept_unjudged=True)
    world.settle()
    world.ask_for("c", accept_unjudged=True, rollbackTo=99)
    world.settle()
    assert (world.live, world.candidate) == (1, 2)


def test_a_first_version_that_is_dropped_leaves_an_endpoint_that_waits_and_has_not_failed():
    world = EndpointWorld(an_endpoint("a"))
    world.settle()
    world.passed.clear()
    world.settle()
    assert (world.live, world.candidate, world.remembered(1).state) == (None, None, "Dropped")
    assert world.phase is EndpointPhase.PENDING


def test_B_a_standby_whose_verdict_was_taken_back_still_comes_back_in_the_probation():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.answers(2)
    world.settle()
    assert (world.live, world.remembered(1).state) == (2, "Standby")
    world.passed.clear()
    world.crashes(2)
    world.settle()
    assert (world.live, world.route) == (1, 1)


def test_A_other_settings_of_a_live_model_whose_verdict_was_taken_back_start_nothing():
    world = a_live_world()
    world.passed.clear()
    world.ask_for("a", limits={"maxQueue": 1})
    world.settle()
    assert (world.live, world.route, world.candidate) == (1, 1, None)


def test_a_lost_verdict_takes_no_live_version_away():
    world = a_live_world()
    world.passed.clear()
    world.settle()
    assert (world.live, world.phase) == (1, EndpointPhase.SERVING)


# -------------------------------------------------------------------------------------------------- B: last good


def test_B_a_candidate_runs_beside_the_live_version_and_takes_over_when_it_answered():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    assert (world.running(), world.route) == ({1, 2}, 1)
    world.ready(2)
    world.settle()
    assert world.route == 1
    world.answers(2)
    world.settle()
    assert (world.live, world.route, world.running()) == (2, 2, {1, 2})
    assert world.remembered(1).state == "Standby"


def test_B_a_candidate_that_has_answered_and_hangs_since_does_not_take_over():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.versions[2] = VersionView("Unready", "no answer for 10 s", answered=True, parity=True)
    world.settle()
    assert (world.live, world.candidate, world.route) == (1, 2, 1)
    world.answers(2)
    world.settle()
    assert (world.live, world.route) == (2, 2)


def test_a_candidate_is_looked_at_again_when_its_time_to_start_is_over():
    world = EndpointWorld(an_endpoint("a"))
    world.settle()
    world.wait(60)
    assert world.reconcile().look_again == timedelta(minutes=9)
    world.answers(1)
    world.settle()
    world.ask_for("b")
    world.settle()
    world.answers(2)
    world.settle()
    world.ask_for("a", engine={"maxModelLength": 64})
    assert world.settle().look_again == timedelta(seconds=30), "the probation of version 2 ends before that"


def test_an_endpoint_does_not_say_that_it_serves_before_the_traffic_has_moved():
    """The status of a decision is written before the rest is applied: an executor may die in between."""
    world = EndpointWorld(an_endpoint("a"))
    world.settle()
    world.answers(1)
    world.reconcile()
    world.route = None
    assert world.reconcile().look_again == timedelta(seconds=1)
    assert (world.live, world.phase) == (1, EndpointPhase.ROLLING_OUT)
    assert (world.condition("Ready").status, world.condition("Ready").reason) == ("False", "TrafficMoves")
    world.settle()
    assert (world.route, world.phase) == (1, EndpointPhase.SERVING)

    world.ask_for("b")
    world.settle()
    world.answers(2)
    world.reconcile()
    assert (world.live, world.phase) == (2, EndpointPhase.ROLLING_OUT)
    assert world.condition("Ready").status == "True", "version 1 answers in the meantime"
    world.settle()
    assert (world.live, world.phase) == (2, EndpointPhase.SERVING)
    assert [event for event in world.events if event == "TrafficMoves"] == []


def test_an_endpoint_whose_old_version_is_gone_is_not_ready_while_the_traffic_moves():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.crashes(1)
    world.answers(2)
    world.reconcile()
    assert (world.live, world.phase) == (2, EndpointPhase.ROLLING_OUT)
    assert (world.condition("Ready").status, world.condition("Ready").reason) == ("False", "TrafficMoves")


def test_B_the_last_version_ends_after_the_probation():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.answers(2)
    assert world.settle().look_again == timedelta(seconds=30)
    world.wait(29)
    world.settle()
    assert world.running() == {1, 2}
    world.wait(1)
    assert world.reconcile().look_again is None, "there is nothing more to wait for"
    world.settle()
    assert world.running() == {2}
    assert world.remembered(1).state == "Retired"


@pytest.mark.parametrize(
    ("happens", "says"),
    [
        (lambda world: world.crashes(2, "exit code 2: bad artifact"), "bad artifact"),
        (lambda world: world.versions.update({2: VersionView("Failed")}), "its server ended"),
        (lambda world: world.does_not_answer(2, "HTTP 500"), "HTTP 500"),
        (lambda world: world.versions.update({2: VersionView("Ready", answered=False)}), "it did not answer a prompt"),
        (lambda world: world.wait(601), "not ready within 10m"),
    ],
    ids=["crashes", "ends without a word", "does not answer", "says nothing", "never ready"],
)
def test_B_a_candidate_that_fails_leaves_the_live_version_alone(happens, says):
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    happens(world)
    world.settle()
    assert (world.live, world.route, world.running(), world.phase) == (1, 1, {1}, EndpointPhase.SERVING)
    assert world.remembered(2).state == "Failed"
    assert says in world.remembered(2).message
    assert "CandidateFailed" in world.events
    assert world.condition("RollbackWithoutEffect") is None, "nobody asked for a rollback"


def test_B_a_candidate_that_fails_when_the_live_version_is_about_to_make_room_leaves_it_running():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.ask_for("b", **recreate())
    world.crashes(2)
    decision = world.reconcile()
    assert decision.stop == (2,)
    assert [version.version for version in decision.start] == [1] or decision.start == ()
    world.settle()
    assert (world.live, world.route, world.running(), world.started) == (1, 1, {1}, [1, 2])


def test_what_is_said_of_a_candidate_fits_into_status_however_long_it_is():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    words = "0/400 nodes are available: " + "1 node(s) had untolerated taint {team: a}, " * 200
    world.versions[2] = VersionView("Starting", words, waits=True)
    world.settle()
    assert world.status.candidate.message.startswith("0/400 nodes are available")
    world.crashes(2, words)
    world.settle()
    assert len(world.remembered(2).message) == 4096


def test_of_three_versions_in_one_probation_the_one_before_the_newest_stands_by():
    slow = {"rollout": {"probation": "1h"}}
    world = a_live_world(**slow)
    world.ask_for("b", **slow)
    world.settle()
    world.answers(2)
    world.settle()
    world.ask_for("a", engine={"maxModelLength": 64}, **slow)
    world.settle()
    world.answers(3)
    world.settle()
    states = [(version.version, version.state) for version in world.status.history]
    assert (world.live, states) == (3, [(2, "Standby"), (1, "Retired")])
    assert world.running() == {2, 3}


@pytest.mark.parametrize("happens", ["crashes", "hangs"])
def test_B_a_version_that_fails_in_its_probation_gives_way_to_the_last_one(happens):
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.answers(2)
    world.settle()
    getattr(world, happens)(2)
    decision = world.reconcile()
    assert decision.route == 1
    world.settle()
    assert (world.live, world.route, world.running(), world.phase) == (1, 1, {1}, EndpointPhase.SERVING)
    assert [(version.version, version.state) for version in world.status.history] == [(2, "Failed")]
    said = {"crashes": "exit code 1: out of memory", "hangs": "no answer for 10 s"}
    assert world.remembered(2).message == f"failed in its probation: {said[happens]}"
    assert world.started == [1, 2], "what failed is not tried again, and what ran was not started again"


def test_B_a_version_that_hangs_without_a_word_is_said_to_have_stopped_answering():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.answers(2)
    world.settle()
    world.versions[2] = VersionView("Unready")
    world.settle()
    assert (world.live, world.remembered(2).message) == (1, "failed in its probation: it stopped answering")
    assert "RolledBack" in world.events


def test_B_a_version_that_does_not_answer_at_the_end_of_its_probation_keeps_the_last_one():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.answers(2)
    world.settle()
    world.crashes(1)
    world.crashes(2)
    world.settle()
    world.wait(60)
    world.settle()
    assert world.running() == {1, 2}
    world.crashes(2)
    world.ready(1)
    world.settle()
    assert (world.live, world.route) == (1, 1)


def test_the_last_version_ends_too_when_an_endpoint_is_stopped_in_the_probation():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.answers(2)
    world.settle()
    world.ask_for("b", replicas=0)
    world.settle()
    assert world.running() == {1, 2}, "it has the traffic still"
    world.versions[2] = VersionView("Starting", "spec.replicas is 0")
    world.settle()
    assert (world.running(), world.live, world.remembered(1).state) == ({2}, 2, "Retired")
    world.ask_for("b")
    world.hangs(2)
    world.settle()
    assert world.live == 2, "one that is resumed does not answer at first, and has not failed"
    world.ready(2)
    world.settle()
    assert (world.phase, world.live) == (EndpointPhase.SERVING, 2)


def test_an_endpoint_that_somebody_stops_is_stopped_and_not_degraded():
    world = a_live_world()
    world.ask_for("a", replicas=0)
    world.settle()
    assert world.phase is EndpointPhase.SERVING, "it answers still"
    world.versions[1] = VersionView("Starting", "spec.replicas is 0")
    decision = world.reconcile()
    ready = world.condition("Ready")
    assert (world.phase, ready.status, ready.reason) == (EndpointPhase.STOPPED, "False", "Stopped")
    assert "`slipway resume endpoint/chat`, or more replicas, brings version 1 back" in ready.message
    assert [event.type for event in decision.events] == ["Normal"], "nobody is warned of what was wanted"
    world.ask_for("a")
    world.settle()
    assert (world.phase, world.condition("Ready").reason) == (EndpointPhase.DEGRADED, "NotAnswering")
    world.ready(1)
    world.settle()
    assert (world.phase, world.live) == (EndpointPhase.SERVING, 1)


def test_a_model_that_a_stopped_endpoint_is_told_is_rolled_out_and_then_stopped():
    world = a_live_world()
    world.ask_for("b", replicas=0)
    world.versions[1] = VersionView("Starting", "spec.replicas is 0")
    world.settle()
    assert (world.phase, world.candidate) == (EndpointPhase.ROLLING_OUT, 2)
    world.answers(2)
    world.settle()
    world.versions[2] = VersionView("Starting", "spec.replicas is 0")
    world.settle()
    assert (world.phase, world.live) == (EndpointPhase.STOPPED, 2)


def test_a_live_version_that_dies_later_is_started_again_and_stays_live():
    world = a_live_world()
    world.crashes(1)
    world.reconcile()
    assert world.phase is EndpointPhase.DEGRADED
    assert "out of memory" in world.condition("Ready").message
    assert world.started == [1, 1]
    world.ready(1)
    world.settle()
    assert world.phase is EndpointPhase.SERVING
    assert [e for e in world.events if e in ("NotAnswering", "Answering")][-2:] == ["NotAnswering", "Answering"]


def test_of_an_endpoint_that_answers_no_more_it_is_warned_and_not_when_it_answers_again():
    world = a_live_world()
    world.crashes(1)
    assert [(event.type, event.reason) for event in world.reconcile().events] == [("Warning", "NotAnswering")]
    world.ready(1)
    assert [(event.type, event.reason) for event in world.reconcile().events] == [("Normal", "Answering")]


def test_a_new_executor_brings_the_live_version_back_and_does_not_call_it_serving_before_it_is():
    world = a_live_world()
    world.executor_restarts()
    decision = world.reconcile()
    assert (decision.route, world.started) == (1, [1, 1])
    assert world.phase is EndpointPhase.DEGRADED
    assert world.condition("Ready").message == "version 1: its server starts"
    world.ready(1)
    world.settle()
    assert world.phase is EndpointPhase.SERVING


def test_a_candidate_has_its_whole_start_timeout_after_its_executor_was_away():
    world = EndpointWorld(an_endpoint("a"))
    world.settle()
    world.executor_restarts()
    world.wait(3600)
    world.settle()
    assert world.candidate == 1
    world.wait(599)
    world.answers(1)
    world.settle()
    assert world.live == 1


def test_B_a_candidate_that_cannot_be_placed_waits_beside_the_live_version_for_as_long_as_it_takes():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.versions[2] = VersionView("Starting", "no node fits", waits=True)
    world.wait(24 * 3600)
    assert world.settle().look_again is None
    assert (world.live, world.candidate, world.status.candidate.message) == (1, 2, "no node fits")
    world.versions[2] = VersionView("Starting", began=world.now)
    world.wait(599)
    world.settle()
    assert world.candidate == 2, "its time to start begins when it has a place"
    world.wait(1)
    world.settle()
    assert (world.live, world.candidate) == (1, None)
    assert world.remembered(2).message == "it was not ready within 10m"


def test_recreate_puts_the_last_good_version_back_when_the_candidate_finds_no_place_in_time():
    world = EndpointWorld(an_endpoint("a", rollout={"strategy": "Recreate"}))
    world.goes_live()
    world.ask_for("b", rollout={"strategy": "Recreate"})
    world.settle()
    world.versions[2] = VersionView("Starting", "no node fits", waits=True)
    world.wait(600)
    world.settle()
    assert (world.candidate, world.remembered(2).message) == (None, "it was not ready within 10m: no node fits")
    world.ready(1)
    world.settle()
    assert (world.live, world.phase) == (1, EndpointPhase.SERVING)


# ----------------------------------------------------------------------------------------- what is asked, and again


def test_a_failed_revision_is_tried_again_only_when_it_is_asked_for():
    world = EndpointWorld(an_endpoint("a"))
    world.settle()
    world.crashes(1)
    world.settle()
    assert (world.phase, world.started) == (EndpointPhase.FAILED, [1])
    world.wait(7200)
    world.settle()
    assert world.started == [1]
    world.annotate_retry("now")
    world.settle()
    assert (world.candidate, world.started) == (2, [1, 2])
    world.crashes(2)
    world.settle()
    assert world.started == [1, 2]


def test_a_failed_revision_stays_failed_after_another_one_was_tried():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.crashes(2)
    world.settle()
    world.ask_for("a", engine={"maxModelLength": 64})
    world.settle()
    world.crashes(3)
    world.settle()
    world.ask_for("b")
    world.settle()
    assert (world.live, world.candidate, world.started) == (1, None, [1, 2, 3])


def test_the_candidate_is_dropped_when_the_spec_asks_for_another_one_or_for_the_live_one():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.ask_for("b", engine={"maxModelLength": 64})
    world.settle()
    assert (world.candidate, world.running()) == (3, {1, 3})
    assert world.remembered(2).state == "Dropped", "nobody takes it for a version that was live"
    world.ask_for("a")
    world.settle()
    assert (world.candidate, world.running(), world.live) == (None, {1}, 1)


def test_a_candidate_is_told_to_end_though_nothing_of_it_has_been_seen_yet():
    """What an executor sees is older than what it did."""
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    del world.versions[2]
    world.ask_for("a")
    assert world.reconcile().stop == (2,)


def test_rollback_to_serves_a_model_of_the_history_as_a_new_version():
    world = a_live_world()
    world.ask_for("b")
    world.goes_live()
    world.ask_for("b", rollbackTo=1)
    assert world.goes_live() == 3
    assert world.status.live.digest == digest("a")
    assert world.started == [1, 2, 3]


STORE = {"folder": "s3://models"}


def test_a_version_remembers_the_secret_that_it_is_fetched_with_and_a_rollback_to_it_takes_that():
    world = a_live_world(**STORE, credentials="store")
    world.ask_for("b", folder="hf://org", credentials="hub")
    world.goes_live()
    assert world.status.live.credentials == "hub"
    assert world.remembered(1).credentials == "store"
    world.ask_for("b", folder="hf://org", credentials="hub", rollbackTo=1)
    world.goes_live()
    assert (world.status.live.uri, world.status.live.credentials) == ("s3://models/a", "store")


def test_another_secret_is_another_version_so_that_a_wrong_one_can_be_mended():
    world = a_live_world(**STORE, credentials="store")
    world.ask_for("b", **STORE, credentials="stroe")
    world.settle()
    assert world.candidate == 2
    world.ask_for("b", **STORE, credentials="store")
    world.settle()
    assert (world.candidate, world.status.candidate.credentials) == (3, "store")


def test_a_model_that_is_not_fetched_has_no_secret_whatever_the_spec_names():
    world = a_live_world()
    world.ask_for("a", credentials="of-the-model-before")
    world.settle()
    assert (world.live, world.candidate, world.status.live.credentials) == (1, None, None)


def test_rollback_to_an_unknown_version_changes_nothing_and_says_what_there_is():
    world = a_live_world()
    world.ask_for("b", rollbackTo=7)
    world.settle()
    first = world.condition("RollbackUnknown")
    world.wait(60)
    world.settle()
    assert world.condition("RollbackUnknown") == first
    assert "[1]" in first.message
    assert (world.live, world.candidate) == (1, None)
    world.ask_for("a")
    world.settle()
    assert world.condition("RollbackUnknown") is None


def test_rollback_to_the_live_version_says_that_it_changes_nothing():
    world = a_live_world()
    world.ask_for("b", rollbackTo=1)
    world.settle()
    told = world.condition("RollbackWithoutEffect")
    assert told.reason == "AlreadyLive"
    assert "spec.rollbackTo is 1" in told.message
    assert (world.live, world.candidate) == (1, None)
    assert world.events.count("RollbackAlreadyLive") == 1, "it is told once"
    world.ask_for("b")
    world.goes_live()
    assert world.condition("RollbackWithoutEffect") is None


def test_rollback_to_a_version_that_there_is_not_is_said_as_that_alone():
    world = a_live_world()
    world.ask_for("b", rollbackTo=1)
    world.settle()
    world.ask_for("b", rollbackTo=99)
    world.settle()
    assert world.condition("RollbackUnknown").status == "True"
    assert world.condition("RollbackWithoutEffect") is None


def test_another_reason_for_which_a_rollback_changes_nothing_is_told_again():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.crashes(2)
    world.settle()
    world.ask_for("b", rollbackTo=1)
    world.settle()
    world.ask_for("b", rollbackTo=2)
    world.settle()
    assert [event for event in world.events if event.startswith("Rollback")] == [
        "RollbackAlreadyLive", "RollbackVersionFailed",
    ]  # fmt: skip


def test_rollback_to_what_failed_says_that_it_is_not_tried():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.versions[2] = VersionView("Failed", "no room on the GPU")
    world.settle()
    world.ask_for("b", rollbackTo=2)
    world.settle()
    told = world.condition("RollbackWithoutEffect")
    assert told.reason == "VersionFailed"
    assert (world.live, world.candidate) == (1, None)
    assert world.events.count("RollbackVersionFailed") == 1


def test_a_rollback_to_what_failed_is_said_where_nothing_is_live_too():
    world = EndpointWorld(an_endpoint("a"))
    world.settle()
    world.crashes(1)
    world.settle()
    world.ask_for("a", rollbackTo=1)
    world.settle()
    assert world.condition("RollbackWithoutEffect").reason == "VersionFailed"
    assert (world.live, world.candidate, world.started) == (None, None, [1])
    world.annotate_retry("now")
    world.reconcile()
    assert (world.candidate, world.condition("RollbackWithoutEffect")) == (2, None)


def test_B_a_rollback_that_is_done_is_no_rollback_without_effect():
    world = a_live_world()
    world.ask_for("b")
    world.goes_live()
    world.ask_for("b", rollbackTo=1)
    world.settle()
    assert (world.candidate, world.condition("RollbackWithoutEffect")) == (3, None), "nor is one under way"
    world.goes_live()
    assert world.condition("RollbackWithoutEffect") is None


def test_B_a_clock_that_was_ahead_prolongs_no_probation():
    world = a_live_world()
    world.ask_for("b")
    world.settle()
    world.wait(2 * 3600)
    world.answers(2)
    world.settle()
    world.wait(-2 * 3600)
    world.settle()
    assert world.running() == {1, 2}
    world.wait(3600)
    world.settle()
    assert world.running() == {2}


def test_history_remembers_the_newest_sixteen():
    world = a_live_world()
    for number in range(2, 24):
        world.ask_for("b", engine={"maxModelLength": 64 + number})
        world.settle()
        world.crashes(number)
        world.settle()
    assert [v.version for v in world.status.history] == list(range(23, 7, -1))
    assert world.live == 1


# ------------------------------------------------------------------------------------------------------ Recreate


def recreate(**rest):
    return {"rollout": {"strategy": "Recreate", **rest}}


def test_recreate_sends_no_traffic_to_a_version_that_is_stopped_for_its_successor():
    world = a_live_world(**recreate())
    world.executor_restarts()
    world.ask_for("b", **recreate())
    assert (world.reconcile().route, world.route) == (None, None)


def test_recreate_ends_the_live_version_before_the_candidate_starts():
    world = a_live_world(**recreate())
    world.ask_for("b", **recreate())
    world.reconcile()
    world.reconcile()
    assert (world.started, world.running()) == ([1], set()), "version 1 drains"
    world.ends(1)
    world.settle()
    assert world.running() == {2}
    ready = world.condition("Ready")
    assert (ready.status, ready.message) == ("False", "version 1: it is stopped while its successor starts")
    world.answers(2)
    world.settle()
    assert (world.live, world.route, world.running()) == (2, 2, {2})


def test_recreate_puts_the_last_good_version_back_when_the_candidate_fails():
    world = a_live_world(**recreate())
    world.ask_for("b", **recreate())
    world.settle()
    world.crashes(2)
    world.settle()
    assert (world.live, world.running(), world.started) == (1, {1}, [1, 2, 1])
    world.ready(1)
    world.settle()
    assert (world.phase, world.route) == (EndpointPhase.SERVING, 1)


def a_recreated_world():
    """Version 2 took over after version 1 had ended, and is in its probation."""
    world = a_live_world(**recreate())
    world.ask_for("b", **recreate())
    world.settle()
    world.answers(2)
    world.settle()
    return world


def test_recreate_does_not_take_the_stopped_version_for_a_sick_one():
    world = a_recreated_world()
    world.ask_for("a", engine={"maxModelLength": 64}, **recreate())
    world.settle()
    assert (world.live, world.candidate, world.running()) == (2, 3, {3})


def test_recreate_takes_no_stopped_version_for_a_sick_one_while_it_drains_in_its_probation():
    world = a_recreated_world()
    world.ask_for("a", engine={"maxModelLength": 64}, **recreate())
    world.reconcile()
    world.hangs(2)
    world.reconcile()
    assert (world.live, world.candidate) == (2, 3), "it does not answer because it was told to end"


def test_recreate_puts_the_last_good_version_back_when_the_new_one_fails_in_its_probation():
    world = a_recreated_world()
    world.crashes(2)
    world.settle()
    assert (world.live, world.running(), world.candidate) == (1, {1}, None)


def test_a_blocker_is_a_condition_for_as_long_as_it_lasts():
    world = a_live_world()
    world.blockers = (Blocker("PortUnavailable", "NotOpened", "port 80 needs root"),)
    world.settle()
    assert world.condition("PortUnavailable").message == "port 80 needs root"
    assert world.phase is EndpointPhase.SERVING
    assert world.events.count("NotOpened") == 1
    world.blockers = ()
    world.settle()
    assert world.condition("PortUnavailable") is None
    assert world.condition("Ready").status == "True"


# ------------------------------------------------------------------------------------------------------ revisions


@pytest.mark.parametrize(
    "edit",
    [
        {"port": 8001},
        {"replicas": 3},
        {"autoscaling": {"maxReplicas": 3}},
        {"rollout": {"probation": "1m"}},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_what_applies_in_place_makes_no_version(edit):
    world = a_live_world()
    world.ask_for("a", **edit)
    world.settle()
    assert (world.live, world.candidate) == (1, None)


@pytest.mark.parametrize(
    "edit",
    [{"engine": {"dtype": "FP32"}}, {"limits": {"maxQueue": 1}}, {"access": {"keysFile": "keys"}}],
    ids=lambda edit: next(iter(edit)),
)
def test_every_other_edit_makes_one(edit):
    world = a_live_world()
    world.ask_for("a", **edit)
    world.settle()
    assert (world.live, world.candidate) == (1, 2)


def test_a_setting_that_a_later_release_adds_restarts_nothing():
    class LaterTemplate(EndpointTemplate):
        added: int = 3

    model = ServedModel(uri="file:///a", digest=digest("a"))
    assert revision_of(model, LaterTemplate()) == revision_of(model, EndpointTemplate())
    assert revision_of(model, LaterTemplate(added=4)) != revision_of(model, EndpointTemplate())


def test_B_a_revision_is_the_same_in_every_release():
    """Another one would start each version of each endpoint anew, at the upgrade."""
    engine = {"dtype": "FP32", "maxModelLength": 64}
    endpoint = an_endpoint("a", engine=engine, limits={"maxQueue": 3}, access={"keysFile": "keys"})
    assert revision_of(endpoint.spec.model, endpoint.spec) == "55de9101fa0a9707"


# ------------------------------------------------------------------------------------------------- a random world


class RandomEndpoint(RuleBasedStateMachine):
    """EndpointWorld checks invariants A and B in every pass; here nobody knows what comes next."""

    @initialize(strategy=st.sampled_from(["Auto", "BlueGreen", "Recreate"]))
    def begins(self, strategy):
        self.world = EndpointWorld(an_endpoint("a", rollout={"strategy": strategy}))

    @rule()
    def passes(self):
        self.world.reconcile()

    @rule()
    def settles_and_then_decides_nothing(self):
        decision = self.world.settle()
        again = self.world.decide()
        assert again.status == decision.status
        assert (again.events, again.route, again.stop) == ((), None, ())

    @rule(
        model=st.sampled_from(["a", "b", "c", None]),
        length=st.sampled_from([None, 64]),
        rollback=st.sampled_from([None, None, 1, 2, 3]),
        strategy=st.sampled_from(["Auto", "Auto", "BlueGreen", "Recreate"]),
    )
    def spec_changes(self, model, length, rollback, strategy):
        spec = {"rollout": {"strategy": strategy}}
        if length:
            spec["engine"] = {"maxModelLength": length}
        if rollback:
            spec["rollbackTo"] = rollback
        self.world.ask_for(model, **spec)

    @rule(letter=st.sampled_from("abc"))
    def accepts_a_model_unjudged(self, letter):
        self.world.ask_for(letter, accept_unjudged=True)

    @rule(letter=st.sampled_from("abc"), passes=st.booleans())
    def verdict_comes_or_goes(self, letter, passes):
        (self.world.passed.add if passes else self.world.passed.discard)(digest(letter))

    @rule(token=st.sampled_from([None, "x", "y"]))
    def retry_is_asked_for(self, token):
        self.world.annotate_retry(token)

    @precondition(lambda self: self.world.versions)
    @rule(data=st.data(), happens=st.sampled_from(["ready", "answers", "does_not_answer", "hangs", "crashes"]))
    def a_server_changes(self, data, happens):
        number = data.draw(st.sampled_from(sorted(self.world.versions)))
        if self.world.versions[number].state == "Stopping":
            self.world.ends(number)
        else:
            getattr(self.world, happens)(number)

    @precondition(lambda self: self.world.candidate in self.world.versions)
    @rule()
    def the_candidate_answers(self):
        if self.world.versions[self.world.candidate].state != "Stopping":
            self.world.answers(self.world.candidate)

    @rule()
    def executor_restarts(self):
        self.world.executor_restarts()

    @rule(seconds=st.sampled_from([1, 31, 700]))
    def time_passes(self, seconds):
        self.world.wait(seconds)

    @invariant()
    def recreate_runs_one_version(self):
        if self.world.endpoint.spec.rollout.strategy == "Recreate":
            self.world.settle()
            assert len(self.world.running()) <= 1


RandomEndpoint.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_AB_a_random_world_never_breaks_the_gate_or_the_last_good_version = RandomEndpoint.TestCase
