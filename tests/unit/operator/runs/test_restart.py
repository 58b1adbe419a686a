"""F: a new operator process looks at everything and writes nothing where nothing changed."""

from datetime import timedelta

import pytest
from tests.unit.operator.run_world import RunWorld
from tests.unit.operator.served_world import ServedWorld

from slipway_operator.kube import kinds


def serving() -> RunWorld:
    world = RunWorld()
    world.train()
    world.evaluate()
    world.serve()
    return world


def rejected() -> RunWorld:
    world = RunWorld()
    world.train()
    world.evaluate(perplexity=99)
    return world


def held() -> RunWorld:
    world = RunWorld()
    world.train()
    world.end("evaluate", result="garbage")
    world.settle()
    return world


def failed() -> RunWorld:
    world = RunWorld(spec={"retries": 0})
    world.settle()
    world.end("prepare", code=2, result={"error": {"kind": "BadData", "message": "no"}})
    world.settle()
    return world


def completed() -> RunWorld:
    world = serving()
    world.cluster.remove(kinds.MODEL_ENDPOINT, "default", "chat")
    world.settle()
    return world


def training() -> RunWorld:
    world = RunWorld()
    world.settle()
    world.end("prepare")
    world.settle()
    return world


def suspended() -> RunWorld:
    world = training()
    world.edit(suspend=True)
    world.settle()
    return world


STATES = {
    "Serving": serving,
    "Rejected": rejected,
    "Held": held,
    "Failed": failed,
    "Completed": completed,
    "Training": training,
    "Suspended": suspended,
}


@pytest.mark.parametrize("phase", STATES)
def test_F_a_restart_writes_nothing_about_a_run(phase: str):
    world = STATES[phase]()
    assert world.phase == phase
    before = len(world.cluster.writes)
    world.now += timedelta(days=3)
    world.start_operator()
    world.reconcile()
    assert world.cluster.writes[before:] == []


@pytest.mark.parametrize("phase", ["Serving", "Rejected", "Held", "Failed", "Completed"])
def test_F_a_finished_run_stays_as_it_is_when_its_jobs_and_pods_are_gone(phase: str):
    world = STATES[phase]()
    for kind in (kinds.JOB, kinds.POD):
        for found in world.cluster.all(kind):
            world.cluster.remove(kind, "default", found["metadata"]["name"])
    before, status = len(world.cluster.writes), world.run["status"]
    world.start_operator()
    world.reconcile()
    assert (world.cluster.writes[before:], world.run["status"]) == ([], status)


def test_F_a_restart_writes_nothing_about_an_endpoint():
    world = ServedWorld()
    world.passes("a")
    world.serve("a")
    world.goes_live()
    before = len(world.cluster.writes)
    world.wait(3 * 86400)
    world.start_operator()
    world.reconcile()
    assert world.cluster.writes[before:] == []


def test_F_a_status_of_a_release_that_had_fewer_fields_is_not_written_anew():
    world = serving()
    status = world.run["status"]
    for stage in status["stages"]:
        del stage["stalls"], stage["failures"], stage["resumedStep"]
    del status["evaluation"]["recallOverlap"]
    world.cluster.set_status(kinds.TRAINING_RUN, "default", "demo", status)
    before = len(world.cluster.writes)
    world.start_operator()
    world.reconcile()
    assert world.cluster.writes[before:] == []
