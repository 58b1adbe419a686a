"""What people do to the endpoint of a run, and what the run says and does then."""

from dataclasses import replace

import pytest
from tests.unit.core.runs import DIGEST, OTHER_DIGEST, a_run
from tests.unit.core.world import World

from slipway_core.lifecycle.annotations import RETRY_ANNOTATION
from slipway_core.lifecycle.endpoint_claim import Claim
from slipway_core.lifecycle.observed import EndpointView
from slipway_core.resources import conditions
from slipway_core.resources.status import EndpointPhase, EndpointStatus, Phase, VersionStatus

ALL = ("prepare", "learn", "export", "evaluate")
RELATIVE = [{"metric": "perplexity", "max": 20}, {"metric": "perplexity", "maxRegression": 1}]


def a_serving_run(**spec) -> World:
    world = World(a_run(**spec))
    world.through(*ALL)
    world.goes_live()
    world.settle()
    assert world.phase is Phase.SERVING
    return world


def edit_by_hand(world: World) -> None:
    """Somebody tells the endpoint another model; the run's annotations stay."""
    world.endpoint = replace(world.endpoint, claim=replace(world.endpoint.claim, run="", digest=OTHER_DIGEST))


def make_by_hand(world: World) -> None:
    """Somebody deletes the endpoint and makes another of its name."""
    world.endpoint = EndpointView(Claim("", OTHER_DIGEST), EndpointStatus(), current=False)


def annotate(world: World, token: str) -> None:
    metadata = world.run.metadata.model_copy(update={"annotations": {RETRY_ANNOTATION: token}})
    world.run = world.run.model_copy(update={"metadata": metadata})


def says(world: World, **status) -> None:
    """The endpoint has done what it was told, and its status says this."""
    view = world.endpoint
    world.endpoint = replace(view, status=view.status.model_copy(update=status), current=True)


def version(number: int, state: str, digest: str = DIGEST, message: str | None = None) -> VersionStatus:
    since = "2026-01-01T00:00:00Z"
    return VersionStatus(version=number, uri="x", digest=digest, state=state, since=since, message=message)


def roll_back_by_hand(world: World, *history: VersionStatus) -> None:
    """Somebody sets spec.rollbackTo to 1, and version 1 has the traffic."""
    world.endpoint = replace(world.endpoint, rollback_to=1)
    live = version(1, "Live", OTHER_DIGEST)
    says(world, live=live, candidate=None, history=list(history), phase=EndpointPhase.SERVING)


# ----------------------------------------------------------------------------------------------- a run that is over


@pytest.mark.parametrize("change", [edit_by_hand, make_by_hand])
def test_a_completed_run_is_not_judged_again_when_a_model_that_was_set_by_hand_goes_live(change):
    world = a_serving_run(gates=RELATIVE)
    change(world)
    world.settle()
    assert world.phase is Phase.COMPLETED
    before = world.run.status
    world.goes_live(OTHER_DIGEST, version=2)
    world.settle()
    assert (world.run.status, world.running(), world.promotions) == (before, [], 1)


@pytest.mark.parametrize("change", [edit_by_hand, make_by_hand])
def test_what_was_done_by_hand_while_nobody_looked_is_not_undone(change):
    world = a_serving_run(gates=RELATIVE)
    change(world)
    world.goes_live(OTHER_DIGEST, version=2)
    world.settle()
    assert (world.phase, world.running(), world.promotions) == (Phase.COMPLETED, [], 1)
    assert world.condition("Live").reason == "Replaced"


def test_a_run_whose_rollout_failed_is_not_judged_again_when_a_model_that_was_set_by_hand_goes_live():
    world = World(a_run(gates=RELATIVE))
    world.through(*ALL)
    world.candidate_fails()
    world.settle()
    assert world.phase is Phase.FAILED
    before = world.run.status
    edit_by_hand(world)
    world.goes_live(OTHER_DIGEST, version=10)
    world.settle()
    assert (world.run.status, world.running(), world.promotions) == (before, [], 1)


# --------------------------------------------------------------------------------------------------- a stopped one


def test_G_a_run_whose_endpoint_is_stopped_stays_serving_and_says_how_it_comes_back():
    world = a_serving_run()
    since = world.condition("Progressing").last_transition_time
    world.wait(60)
    says(world, phase=EndpointPhase.STOPPED)
    world.settle()
    live, progressing = world.condition("Live"), world.condition("Progressing")
    assert (world.phase, live.status, live.reason) == (Phase.SERVING, "False", "Stopped")
    assert "`slipway resume endpoint/chat` starts it" in live.message
    assert (progressing.reason, progressing.last_transition_time) == ("Serving", since), "its time to live goes on"
    assert "is stopped" in progressing.message
    says(world, phase=EndpointPhase.SERVING)
    world.settle()
    assert (world.phase, world.condition("Live").status, world.promotions) == (Phase.SERVING, "True", 1)


def test_a_run_that_saw_its_endpoint_take_up_the_stop_or_rolled_out_to_a_stopped_one_waits_for_nothing():
    world = World(a_run())
    world.through(*ALL)
    assert world.phase is Phase.ROLLING_OUT
    says(world, live=version(1, "Live"), phase=EndpointPhase.STOPPED)
    world.settle()
    assert (world.phase, world.condition("Live").reason) == (Phase.SERVING, "Stopped")


def test_a_local_endpoint_whose_daemon_is_about_to_start_again_is_waited_for():
    world = a_serving_run()
    says(world, phase=EndpointPhase.STOPPED)
    world.endpoint = replace(world.endpoint, current=False)
    world.settle()
    assert world.phase is Phase.ROLLING_OUT


# --------------------------------------------------------------------------------------------------- spec.rollbackTo


def test_a_run_whose_model_another_run_has_judged_since_says_what_keeps_it_from_going_live():
    world = World(a_run())
    world.through(*ALL)
    why = "it has no passing verdict: evaluation 1 of the run other came out as Fail"
    judged = conditions.put([], "Judged", "False", "NotPassed", why, world.now)
    says(world, conditions=judged, phase=EndpointPhase.PENDING)
    world.settle()
    live = world.condition("Live")
    assert (world.phase, live and (live.reason, live.message)) == (Phase.ROLLING_OUT, ("RollingOut", why))


def test_G_a_run_is_completed_while_its_endpoint_is_rolled_back_and_goes_live_once_it_is_not():
    world = World(a_run())
    world.through(*ALL)
    roll_back_by_hand(world)
    world.settle()
    assert (world.phase, world.condition("Progressing").status) == (Phase.COMPLETED, "False")
    live = world.condition("Live")
    assert (live.status, live.reason) == ("False", "RolledBack")
    assert "endpoint chat is rolled back to version 1 by spec.rollbackTo; clear it" in live.message

    world.endpoint = replace(world.endpoint, rollback_to=None, current=False)
    world.settle()
    assert world.phase is Phase.ROLLING_OUT
    says(world, candidate=version(2, "Starting"), phase=EndpointPhase.ROLLING_OUT)
    world.settle()
    assert world.phase is Phase.ROLLING_OUT
    says(world, candidate=None)
    world.goes_live(version=2)
    world.settle()
    assert (world.phase, world.promotions) == (Phase.SERVING, 1)


def test_G_a_candidate_that_gave_way_to_a_rollback_was_never_live():
    world = World(a_run())
    world.through(*ALL)
    roll_back_by_hand(world, version(2, "Dropped", message="the spec asks for the live version again"))
    world.settle()
    assert (world.phase, world.condition("Live").reason) == (Phase.COMPLETED, "RolledBack")
    assert "was live" not in world.condition("Live").message + world.condition("Progressing").message


def test_G_a_model_that_was_live_before_a_rollback_says_so():
    world = a_serving_run()
    roll_back_by_hand(world, version(2, "Retired"))
    world.settle()
    assert (world.phase, world.condition("Live").reason) == (Phase.COMPLETED, "RolledBack")
    assert "version 2 was live" in world.condition("Live").message
    annotate(world, "again")
    world.settle()
    says(world, retry="again")
    world.settle()
    assert (world.phase, world.condition("Live").reason) == (Phase.COMPLETED, "RolledBack"), "nobody undoes a rollback"


def test_G_a_rollout_that_failed_stays_failed_when_the_endpoint_is_rolled_back():
    world = World(a_run())
    world.through(*ALL)
    world.candidate_fails()
    world.settle()
    roll_back_by_hand(world, *world.endpoint.status.history)
    world.settle()
    assert (world.phase, world.condition("Live").reason) == (Phase.FAILED, "RolloutFailed")


def test_a_run_that_is_over_stays_so_when_a_rollback_brings_its_model_back():
    world = a_serving_run()
    edit_by_hand(world)
    world.goes_live(OTHER_DIGEST, version=2)
    world.settle()
    before = world.run.status
    world.endpoint = replace(world.endpoint, rollback_to=1)
    world.goes_live(version=1)
    world.settle()
    assert (before.phase, world.run.status, world.promotions) == (Phase.COMPLETED, before, 1)


def test_a_rollback_to_the_model_of_the_run_is_a_rollout_like_any_other():
    world = a_serving_run()
    world.endpoint = replace(world.endpoint, rollback_to=1)
    world.settle()
    assert world.phase is Phase.SERVING


# --------------------------------------------------------------------------------------- never live, and still live


def test_G_a_candidate_that_was_dropped_was_never_live_and_says_why():
    world = World(a_run())
    world.through(*ALL)
    says(world, history=[version(2, "Dropped", message="its verdict was taken back")])
    world.settle()
    assert world.phase is Phase.ROLLING_OUT
    assert world.condition("Live").message == "version 2 was dropped before it was live: its verdict was taken back"


def test_G_a_model_that_was_live_and_gave_way_says_so():
    world = a_serving_run()
    live = version(3, "Live", OTHER_DIGEST)
    dropped = version(2, "Dropped", message="the spec asks for another version")
    says(world, live=live, history=[dropped, version(1, "Retired")])
    world.settle()
    assert (world.phase, world.condition("Live").reason) == (Phase.COMPLETED, "Replaced")
    assert world.condition("Live").message == "version 1 was live and was replaced"


def test_G_a_retry_of_the_endpoint_changes_nothing_of_a_run_that_was_retried_too():
    world = World(a_run())
    annotate(world, "1")
    world.through(*ALL)
    says(world, retry="1")
    world.goes_live()
    world.settle()
    assert world.phase is Phase.SERVING
    before = world.run.status
    says(world, retry="2")
    world.settle()
    assert (world.run.status, world.promotions) == (before, 1)
    world.endpoint = replace(world.endpoint, current=False)
    world.settle()
    assert (world.phase, world.condition("Live").status) == (Phase.ROLLING_OUT, "True")
    says(world)
    world.settle()
    assert (world.phase, world.promotions) == (Phase.SERVING, 1)


def a_retried_run_whose_rollout_failed() -> World:
    """The run's own retry, 1, was taken up by its endpoint."""
    world = World(a_run())
    annotate(world, "1")
    world.through(*ALL)
    says(world, retry="1")
    world.candidate_fails()
    world.settle()
    assert world.phase is Phase.FAILED
    return world


def test_G_a_failed_rollout_that_the_endpoint_tried_again_serves_though_the_run_was_retried_before():
    world = a_retried_run_whose_rollout_failed()
    says(world, retry="2", candidate=version(10, "Starting"), phase=EndpointPhase.ROLLING_OUT)
    world.settle()
    assert world.phase is Phase.ROLLING_OUT
    says(world, candidate=None)
    world.goes_live(version=10)
    world.settle()
    assert (world.phase, world.promotions) == (Phase.SERVING, 1)


def test_a_new_retry_of_the_run_is_told_though_the_last_one_was_taken_up():
    world = a_retried_run_whose_rollout_failed()
    annotate(world, "2")
    assert world.reconcile().promote is not None
    assert world.phase is Phase.ROLLING_OUT


# ------------------------------------------------------------------------------------- beside versions of others


def test_G_other_settings_of_the_live_model_are_a_rollout_and_another_model_is_none_of_the_runs():
    world = a_serving_run()
    says(world, candidate=version(2, "Starting"), phase=EndpointPhase.ROLLING_OUT)
    world.settle()
    assert (world.phase, world.condition("Live").status) == (Phase.ROLLING_OUT, "True")
    assert "takes up its new settings" in world.condition("Progressing").message
    says(world, candidate=version(3, "Starting", OTHER_DIGEST))
    world.settle()
    assert (world.phase, world.condition("Live").status) == (Phase.SERVING, "True")


@pytest.mark.parametrize(("digest", "phase"), [(DIGEST, Phase.ROLLING_OUT), (OTHER_DIGEST, Phase.SERVING)])
def test_G_a_live_model_that_does_not_answer_beside_a_candidate_is_not_said_to_be_served(digest, phase):
    world = a_serving_run()
    silent = conditions.put([], "Ready", "False", "NotAnswering", "version 1: its server ended", world.now)
    candidate = version(2, "Starting", digest)
    says(world, candidate=candidate, phase=EndpointPhase.ROLLING_OUT, conditions=silent)
    world.settle()
    live = world.condition("Live")
    assert (world.phase, live.status, live.reason) == (phase, "False", "NotAnswering")
    says(world, conditions=conditions.put([], "Ready", "True", "Answering", "version 1 answers", world.now))
    world.settle()
    assert (world.phase, world.condition("Live").status) == (phase, "True")


def test_G_how_far_its_candidate_is_stands_in_the_status_of_the_run():
    world = World(a_run())
    world.through(*ALL)
    says(world, candidate=version(2, "Starting", message="no node fits"), phase=EndpointPhase.ROLLING_OUT)
    world.settle()
    assert (world.phase, world.condition("Live").message) == (Phase.ROLLING_OUT, "no node fits")


def test_G_why_the_endpoint_starts_no_version_stands_in_the_status_of_the_run():
    world = World(a_run())
    world.through(*ALL)
    unknown = conditions.put([], "ParityUnknown", "True", "NoRecord", "the evaluation left no record", world.now)
    says(world, conditions=unknown)
    world.settle()
    assert (world.phase, world.condition("Live").message) == (Phase.ROLLING_OUT, "the evaluation left no record")
    says(world, conditions=conditions.put([], "ParityUnknown", "True", "Unproven", "version 1 is live", world.now))
    world.settle()
    assert world.condition("Live").message == "the endpoint starts the new version"


def test_a_model_that_is_live_and_takes_up_settings_is_live_for_a_run_that_was_rolling_out():
    world = World(a_run())
    world.through(*ALL)
    world.goes_live()
    world.endpoint = replace(world.endpoint, current=False)
    world.settle()
    assert (world.phase, world.condition("Live").status) == (Phase.ROLLING_OUT, "True")


def test_a_run_tells_its_endpoint_though_an_older_run_told_it_the_same_model():
    world = World(a_run())
    world.goes_live()
    world.endpoint = replace(world.endpoint, claim=Claim("older", DIGEST, "2025-01-01T00:00:00Z", "u"))
    world.through(*ALL)
    assert (world.promotions, world.endpoint.claim.run) == (1, "demo")


def test_G_a_version_that_failed_was_not_live_before_a_rollback():
    world = World(a_run())
    world.through(*ALL)
    roll_back_by_hand(world, version(2, "Failed", message="it crashed"))
    world.settle()
    live = world.condition("Live")
    assert live.reason == "RolledBack"
    assert "was live" not in live.message


def test_G_that_a_version_of_another_model_failed_says_nothing_of_the_run():
    world = World(a_run())
    world.through(*ALL)
    world.goes_live(OTHER_DIGEST)
    says(world, history=[version(2, "Failed", OTHER_DIGEST, "it crashed")])
    world.settle()
    assert (world.phase, world.condition("Live").reason) == (Phase.ROLLING_OUT, "RollingOut")


def test_G_a_rollback_counts_once_the_endpoint_has_taken_it_up():
    world = World(a_run())
    world.through(*ALL)
    world.endpoint = replace(world.endpoint, rollback_to=1, current=False)
    world.settle()
    assert world.phase is Phase.ROLLING_OUT
    world.endpoint = replace(world.endpoint, current=True)
    world.settle()
    assert (world.phase, world.condition("Live").reason) == (Phase.COMPLETED, "RolledBack")


def test_a_run_that_serves_tells_an_endpoint_again_that_has_no_model():
    world = a_serving_run()
    world.endpoint = EndpointView(current=False)
    world.settle()
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 2)


# ------------------------------------------------------------------------------------- an endpoint nobody can read


def test_B_a_run_that_serves_stays_so_while_its_endpoint_cannot_be_read():
    world = a_serving_run()
    before = world.condition("Progressing")
    readable = world.endpoint
    world.endpoint = replace(readable, unreadable="spec.engine.later is not known")
    world.settle()
    live = world.condition("Live")
    assert (world.phase, live.status, live.reason) == (Phase.SERVING, "Unknown", "EndpointUnreadable")
    assert "spec.engine.later is not known" in live.message
    assert (world.condition("Progressing"), world.promotions) == (before, 1)
    annotate(world, "again")
    world.settle()
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 1), "what somebody asks for waits"
    world.endpoint = readable
    world.settle()
    assert world.promotions == 2


def test_A_a_run_that_is_to_go_live_tells_an_endpoint_nothing_that_cannot_be_read():
    world = World(a_run())
    world.endpoint = EndpointView(unreadable="spec.engine.later is not known")
    world.through(*ALL)
    progressing = world.condition("Progressing")
    assert (world.phase, world.promotions) == (Phase.ROLLING_OUT, 0)
    assert (progressing.status, progressing.reason) == ("True", "EndpointUnreadable")
