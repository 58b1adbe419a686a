"""No two attempts of a step at once, and none after the end of its run, whatever queues, watches and people do."""

from datetime import timedelta

import pytest
from tests.unit.operator.run_world import RunWorld

from slipway_core.status import Progress
from slipway_operator import kinds, names
from slipway_operator.cluster_error import Conflict


def queued_run(**spec) -> RunWorld:
    world = RunWorld(spec={"compute": {"queue": "team"}, **spec})
    world.settle()
    return world


def admit(world: RunWorld, step: str):
    job = world.job(step)
    world.cluster.put({**job, "spec": {**job["spec"], "suspend": False}})
    pod = world.pod_of(job)
    world.settle()
    return pod


def take_back(world: RunWorld, step: str, pod) -> None:
    job = world.job(step)
    world.cluster.put({**job, "spec": {**job["spec"], "suspend": True}})
    world.cluster.remove(kinds.POD, "default", pod["metadata"]["name"])


def test_D_a_queue_can_admit_no_attempt_of_a_run_that_has_failed():
    world = queued_run(retries=0)
    for _ in range(3):
        take_back(world, "prepare", admit(world, "prepare"))
        world.settle()
    assert world.phase == "Failed"
    assert world.jobs() == [], "the queue would start it again, and nobody would look"
    before = world.run["status"]
    world.start_operator()
    assert world.reconcile() is None
    assert world.run["status"] == before


def test_D_a_queue_can_admit_no_attempt_during_the_pause_before_its_successor():
    world = queued_run()
    pod = admit(world, "prepare")
    world.end("prepare", code=1, result={"error": {"kind": "Internal", "message": "boom"}})
    world.settle()
    world.now += timedelta(seconds=11)
    world.settle()
    world.cluster.remove(kinds.POD, "default", pod["metadata"]["name"])
    take_back(world, "prepare", admit(world, "prepare"))
    world.settle()
    assert [job["metadata"]["labels"][names.ATTEMPT] for job in world.jobs("prepare")] == ["1"]


def test_D_an_attempt_does_not_start_beside_a_pod_that_no_watch_has_told_of():
    world = RunWorld()
    world.settle()
    pod = world.pod_of(world.job("prepare"))
    world.cluster.world.remove({**pod, "metadata": {**pod["metadata"], "uid": ""}})
    world.cluster.remove(kinds.JOB, "default", world.job("prepare")["metadata"]["name"])
    with pytest.raises(Conflict, match="has not ended"):
        world.reconcile()
    assert world.jobs("prepare") == []
    world.cluster.put({**pod, "status": {"phase": "Failed", "reason": "Evicted"}})
    world.settle()
    assert world.job("prepare")["metadata"]["labels"][names.ATTEMPT] == "2"


def test_nothing_is_remembered_of_runs_that_are_gone():
    world = RunWorld()
    world.settle()
    world.pod_of(world.job("prepare"))
    world.settle()
    world.cluster.remove(kinds.TRAINING_RUN, "default", "demo")
    world.reconcile()
    reconciler = world.reconciler
    assert (reconciler.attempts._memories, reconciler.plans._read) == ({}, {})
    assert (reconciler.writes._last, reconciler._uids) == ({}, {})


def test_a_pod_that_says_nothing_is_asked_less_often():
    world = RunWorld()
    world.settle()
    world.pod_of(world.job("prepare"))
    asked = []

    async def silence(pod):
        asked.append(world.now)

    world.pods.progress = silence
    for _ in range(60):
        world.reconcile()
        world.now += timedelta(seconds=10)
    assert asked[:5] == [asked[0] + timedelta(seconds=10 * look) for look in range(5)], "it may only be starting"
    assert 20 <= len(asked) <= 30
    world.pods.progress = type(world.pods).progress.__get__(world.pods)
    world.pods.said = Progress(step=3, total=9)
    world.now += timedelta(seconds=31)
    world.reconcile()
    assert world.record("prepare")["progress"]["step"] == 3
