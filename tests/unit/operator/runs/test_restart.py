"""F: a new operator process looks at everything and writes nothing where nothing changed."""

import json
from datetime import timedelta

import pytest
from tests.unit.operator.run_world import RunWorld
from tests.unit.operator.served_world import ServedWorld

from slipway_operator import names
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
        del stage["stalls"], stage["failures"], stage["resumedStep"], stage["gaveWay"]
    del status["evaluation"]["recallOverlap"]
    world.cluster.set_status(kinds.TRAINING_RUN, "default", "demo", status)
    before = len(world.cluster.writes)
    world.start_operator()
    world.reconcile()
    assert world.cluster.writes[before:] == []


def as_an_older_release_named_it(world: RunWorld, step: str, **differs) -> str:
    """The Job of the newest attempt has the name without a prefix, and nobody lived to record it. Returns its uid."""
    job = world.job(step)
    new, old = names.jobs("demo", step, 1)
    text = json.dumps({**job, "metadata": {**job["metadata"], "name": old}}).replace(f"{new}-0.", f"{old}-0.")
    world.cluster.remove(kinds.JOB, "default", new)
    made = json.loads(text)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container |= differs
    made["metadata"]["uid"] = f"old-{step}"
    world.cluster.put(made)
    status = world.run["status"]
    unrecorded = {"name": step, "state": "Pending"}
    stages = [unrecorded if one["name"] == step else one for one in status["stages"]]
    world.cluster.set_status(kinds.TRAINING_RUN, "default", "demo", {**status, "stages": stages})
    return made["metadata"]["uid"]


@pytest.mark.parametrize("nodes", [1, 2])
def test_D_a_job_that_an_older_release_made_and_did_not_record_is_adopted_with_its_own_name(nodes):
    world = RunWorld(spec={"compute": {"nodes": nodes}})
    world.settle()
    world.end("prepare")
    world.settle()
    uid = as_an_older_release_named_it(world, "learn")
    world.start_operator()
    world.persist()
    (job,) = world.jobs("learn")
    assert (job["metadata"]["uid"], job["metadata"]["name"]) == (uid, "demo-learn-1")
    assert (world.record("learn")["job"], world.record("learn")["attempt"]) == (uid, 1)
    if nodes > 1:
        environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
        (master,) = [one["value"] for one in environment if one["name"] == "SLIPWAY_MASTER_ADDR"]
        assert master == f"demo-learn-1-0.{names.rendezvous('demo', 'learn')}"


def test_D_a_job_of_an_older_release_that_does_other_work_ends_before_its_attempt_is_made_anew():
    world = RunWorld()
    world.settle()
    world.end("prepare")
    world.settle()
    as_an_older_release_named_it(world, "learn", args=["train", "--in-another-way"])
    pod = world.pod_of(world.job("learn"))
    world.start_operator()
    with pytest.raises(AssertionError, match="conflict in every pass"):
        world.persist()
    assert world.jobs("learn") == [], "its pod has not ended"
    world.cluster.put({**pod, "status": {"phase": "Failed", "reason": "Evicted"}})
    world.persist()
    (job,) = world.jobs("learn")
    assert job["metadata"]["name"].startswith("slipway-run-demo-learn-")
