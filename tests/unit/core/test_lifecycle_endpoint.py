"""What people do to the endpoint of a run, and what the run says and does then."""

from dataclasses import replace

import pytest
from tests.unit.core.runs import OTHER_DIGEST, a_run
from tests.unit.core.world import World

from slipway_core.observed import Claim, EndpointView
from slipway_core.status import EndpointStatus, Phase

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
