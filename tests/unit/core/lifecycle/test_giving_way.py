"""A run that holds places for some of its processes while others find none gives them back, and waits its turn."""

from datetime import timedelta

import pytest
from tests.unit.core.runs import a_run
from tests.unit.core.world import World, events_of

from slipway_core.lifecycle.observed import HalfPlaced
from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.resources.status import Phase, StepState


def a_world() -> World:
    """The first attempt of the stage starts."""
    world = World(a_run(compute={"nodes": 2}))
    world.through("prepare")
    return world


def is_half_placed(world: World, *, elder: bool) -> None:
    world._change("learn", half_placed=HalfPlaced(world.now, 1, 2, elder))


def gave_way_once() -> World:
    world = a_world()
    is_half_placed(world, elder=True)
    world.wait(600)
    world.reconcile()
    return world


def test_the_younger_one_gives_its_places_back_after_the_stated_time_and_comes_again_after_a_pause():
    world = a_world()
    is_half_placed(world, elder=True)
    assert world.reconcile().look_again == timedelta(minutes=10)
    world.wait(599)
    assert world.reconcile().delete == ()
    world.wait(1)
    decision = world.reconcile()
    assert [(one.step, one.number) for one in decision.delete] == [("learn", 1)]
    assert events_of(decision).count("GaveWay") == 1
    assert (world.phase, world.condition("Progressing").reason) == (Phase.PENDING, "GaveWay")
    message = world.record("learn").message
    assert [event.message for event in decision.events if event.reason == "GaveWay"] == [message]
    assert message.startswith("1 of its 2 pods had a place for 10 min")
    assert "so that an older run that waits in the same way gets its places" in message

    decision = world.reconcile()
    assert (decision.create, decision.look_again) == ((), timedelta(seconds=40))
    assert (world.phase, world.condition("Progressing").reason) == (Phase.PENDING, "GaveWay")
    assert events_of(decision) == [], "it was told when it gave way"
    world.wait(39)
    assert world.reconcile().create == ()
    world.wait(1)
    assert [one.number for one in world.reconcile().create] == [2]
    record = world.record("learn")
    assert (record.failures, record.stalls, record.gave_way) == (0, 0, 1)
    assert record.message == message


def test_F_an_attempt_whose_deletion_was_refused_goes_once_however_often_it_is_asked_to():
    world = a_world()
    is_half_placed(world, elder=True)
    world.wait(600)
    world._save(world.decide())
    decision = world.decide()
    assert [one.number for one in decision.delete] == [1]
    assert events_of(decision) == []
    assert decision.status.step("learn").gave_way == 1
    world._change("learn", half_placed=None)
    assert [one.number for one in world.decide().delete] == [1], "what it has now does not change that"


def test_one_that_no_older_run_waits_for_has_twice_as_long_and_ever_longer():
    world = a_world()
    for minutes in (20, 40, 80, 160, 160):
        is_half_placed(world, elder=False)
        assert world.reconcile().look_again == timedelta(minutes=minutes)
        world.wait(minutes * 60)
        world.settle()
        assert "so that others may go on" in world.record("learn").message
        world.wait(300)
        world.settle()
    assert (world.record("learn").gave_way, len(world.attempts["learn"])) == (5, 6)


def test_the_pause_grows_with_each_time_up_to_the_longest():
    world = a_world()
    pauses = []
    for _ in range(5):
        is_half_placed(world, elder=True)
        world.wait(600)
        world.reconcile()
        pauses.append(world.reconcile().look_again.total_seconds())
        world.wait(pauses[-1])
        world.settle()
    assert pauses == [40, 80, 160, 300, 300]


def test_one_that_got_all_of_its_places_begins_anew_to_count():
    world = gave_way_once()
    world.settle()
    world.wait(40)
    world.settle()
    assert world.record("learn").gave_way == 1, "it only starts"
    world.reach("learn", 1)
    world.settle()
    assert world.record("learn").gave_way == 0


def test_an_interruption_after_it_gave_way_is_one_like_any_other():
    world = gave_way_once()
    world.settle()
    world.wait(40)
    world.settle()
    world.end("learn", ExitClass.INTERRUPTED, message="the node was drained")
    world.settle()
    record = world.record("learn")
    assert (record.stalls, record.attempt, record.message) == (1, 3, "the node was drained")


def test_what_ends_as_one_that_lost_its_peers_after_it_gave_way_did_so_once():
    world = a_world()
    is_half_placed(world, elder=True)
    world.wait(600)
    world._save(world.decide())  # It has its grace period.
    world.end("learn", ExitClass.LOST_PEERS)
    assert "GaveWay" not in events_of(world.reconcile())
    assert (world.record("learn").gave_way, world.record("learn").stalls) == (1, 0)


def test_processes_that_waited_in_vain_for_peers_without_a_place_have_given_way():
    world = a_world()
    is_half_placed(world, elder=False)
    world.wait(900)
    world.end("learn", ExitClass.LOST_PEERS, message="no rendezvous")
    decision = world.reconcile()
    record = world.record("learn")
    assert [event.message for event in decision.events if event.reason == "GaveWay"] == [record.message]
    assert decision.look_again == timedelta(seconds=40)
    assert (record.state, record.gave_way, record.stalls, record.failures) == (StepState.WAITING, 1, 0, 0)
    assert record.message.startswith("1 of its 2 pods had a place for 15 min")


@pytest.mark.parametrize("half", [None, HalfPlaced(World(a_run()).now, 1, 2)], ids=["all placed", "half placed"])
@pytest.mark.parametrize("exit_class", [ExitClass.INTERRUPTED, ExitClass.LOST_PEERS])
def test_only_lost_peers_of_one_that_was_half_placed_to_its_end_gave_way(exit_class, half):
    world = a_world()
    world.end("learn", exit_class, message="gone")
    world._change("learn", half_placed=half)
    world.settle()
    gave_way = exit_class is ExitClass.LOST_PEERS and half is not None
    record = world.record("learn")
    assert (record.gave_way, record.stalls) == ((1, 0) if gave_way else (0, 1))


# ------------------------------------------------------------------------------------------- where it runs was edited


def test_E_an_attempt_that_waits_for_a_place_where_its_run_is_not_to_run_any_more_is_made_anew():
    world = a_world()
    world._change("learn", elsewhere="Waiting")
    decision = world.reconcile()
    assert [(one.step, one.number, one.reason) for one in decision.delete] == [("learn", 1, "compute was edited")]
    progressing = world.condition("Progressing")
    assert (world.phase, progressing.status, progressing.reason) == (Phase.PENDING, "True", "Moved")
    assert progressing.message == "learn is made anew (attempt 1): compute was edited before it had a place"
    world.settle()
    record = world.record("learn")
    assert (record.attempt, record.failures, record.stalls) == (2, 0, 0), "that is no interruption"


def test_E_one_that_has_its_places_goes_on_and_says_from_when_the_edit_counts():
    world = a_world()
    world.reach("learn", 7)
    world.settle()
    plain = "learn is under way (attempt 1, step 7 of 100)"
    assert world.condition("Progressing").message == plain
    world._change("learn", elsewhere="Placed")
    world.settle()
    message = world.condition("Progressing").message
    assert message == f"{plain}; it goes on where it was made, and the edit of compute counts from the next attempt"
    assert [a.number for _, a in world.running()] == [1]
