"""No two attempts of a step at once, and none after the end of its run, whatever queues, watches and people do."""

from datetime import timedelta

import pytest
from tests.unit.operator.run_world import RunWorld

from slipway_core.resources.status import Progress
from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Conflict, Forbidden, Unreachable


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
    for _ in range(10):
        take_back(world, "prepare", admit(world, "prepare"))
        world.settle()
        world.now += timedelta(minutes=7)
        if world.phase != "Failed":
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


def test_D_an_attempt_whose_succeeded_pod_no_watch_has_told_of_is_not_made_again():
    world = RunWorld()
    world.settle()
    world.end("prepare")
    (pod,) = world.cluster.all(kinds.POD)
    world.cluster.world.remove({**pod, "metadata": {**pod["metadata"], "uid": ""}})
    with pytest.raises(Conflict, match="was not known"):
        world.reconcile()
    world.settle()
    assert (world.record("prepare")["state"], len(world.jobs("prepare"))) == ("Succeeded", 1)


def unreadable(world: RunWorld, error: Exception, *kinds_: kinds.Kind) -> None:
    """From now on the API server answers each list of these kinds with an error."""
    pages = world.cluster.pages

    def answer(kind, namespace=None, selector=None, fields=None):
        if kind in kinds_:
            raise error
        return pages(kind, namespace, selector, fields)

    async def warnings(namespace):
        raise error

    world.cluster.pages = answer  # type: ignore[method-assign]
    if kinds.EVENT in kinds_:
        world.cluster.warnings = warnings  # type: ignore[method-assign]


@pytest.mark.parametrize("error", [Unreachable("HTTP 500: no"), Forbidden("no")])
def test_a_run_stops_and_goes_on_while_nobody_can_ask_its_queue(error):
    world = queued_run()
    unreadable(world, error, kinds.WORKLOAD)
    world.settle()
    assert world.condition("Queued")["reason"] == ("Waiting" if isinstance(error, Forbidden) else "QueueUnreachable")
    world.edit(suspend=True)
    world.settle()
    assert (world.phase, world.jobs()) == ("Suspended", [])
    world.edit(suspend=False)
    world.settle()
    assert world.phase == "Queued"


def test_a_run_stops_while_nobody_can_read_why_its_pod_does_not_start():
    world = RunWorld()
    world.settle()
    unreadable(world, Unreachable("HTTP 500: no"), kinds.EVENT)
    world.now += timedelta(seconds=10)
    world.settle()
    assert world.condition("CauseUnknown")["reason"] == "EventsUnreadable"
    world.edit(suspend=True)
    world.settle()
    assert (world.phase, world.jobs()) == ("Suspended", [])


def test_a_run_goes_on_while_nobody_can_read_its_claim():
    world = RunWorld(spec={"compute": {"nodes": 2}, "storage": {"claimName": "theirs"}})
    get = world.cluster.get

    async def forbidden(kind, namespace, name):
        if kind is kinds.CLAIM:
            raise Forbidden("claims are nobody's business")
        return await get(kind, namespace, name)

    world.cluster.get = forbidden  # type: ignore[method-assign]
    world.settle()
    assert (world.phase, len(world.jobs("prepare"))) == ("Preparing", 1)


def interrupted(world: RunWorld, step: str, times: int) -> None:
    """Attempts that make some progress each, and lose their node."""
    for attempt in range(times):
        progress = {"progress": {"step": attempt + 1, "total": 99}}
        world.end(step, code=75, result=progress)
        world.settle()


def test_a_run_on_spot_nodes_leaves_one_service_and_the_jobs_of_its_last_attempts():
    world = RunWorld(spec={"compute": {"nodes": 2}})
    world.settle()
    world.end("prepare")
    world.settle()
    interrupted(world, "learn", 8)
    assert [job["metadata"]["labels"][names.ATTEMPT] for job in world.jobs("learn")] == ["6", "7", "8", "9"]
    assert len(world.cluster.all(kinds.SERVICE)) == 1
    assert world.record("learn")["attempt"] == 9
    world.start_operator()
    before = world.run["status"]
    world.settle()
    assert world.run["status"] == before


def test_a_service_of_somebody_else_is_left_alone():
    world = RunWorld(spec={"compute": {"nodes": 2}})
    world.settle()
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": names.rendezvous("demo", "learn")},
        "spec": {"selector": {"app": "shop"}},
    }
    world.cluster.put(theirs)
    world.end("prepare")
    world.settle()
    assert world.condition("Refused")["reason"] == "NameTaken"
    assert world.jobs("learn") == []
    assert world.cluster.one(kinds.SERVICE, names.rendezvous("demo", "learn"))["spec"] == theirs["spec"]
    world.cluster.remove(kinds.SERVICE, "default", names.rendezvous("demo", "learn"))
    world.settle()
    assert len(world.jobs("learn")) == 1


def their_claim(mode: str) -> dict:
    metadata = {"name": "theirs", "namespace": "default"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": {"accessModes": [mode]},
    }


def test_a_claim_that_the_user_brings_is_read_seldom_and_told_of_when_nodes_cannot_share_it():
    world = RunWorld(spec={"compute": {"nodes": 2}, "storage": {"claimName": "theirs"}})
    world.cluster.put(their_claim("ReadWriteOnce"))
    world.cluster.world.remove(world.cluster.one(kinds.CLAIM, "theirs"))
    reads = []
    get = world.cluster.get

    async def counted(kind, namespace, name):
        reads.extend([name] if kind is kinds.CLAIM else [])
        return await get(kind, namespace, name)

    world.cluster.get = counted  # type: ignore[method-assign]
    world.settle()
    assert "theirs has the access modes ReadWriteOnce" in world.condition("WorkspaceNotShared")["message"]
    writes = len(world.cluster.writes)
    for _ in range(50):
        world.now += timedelta(seconds=10)
        world.reconcile()
    assert reads == ["theirs"]
    assert len(world.cluster.writes) == writes
    world.cluster.remove(kinds.CLAIM, "default", "theirs")
    world.cluster.put(their_claim("ReadWriteMany"))
    world.cluster.world.remove(world.cluster.one(kinds.CLAIM, "theirs"))
    world.now += timedelta(minutes=2)
    world.settle()
    assert world.condition("WorkspaceNotShared") is None
    for _ in range(500):
        world.now += timedelta(seconds=10)
        world.reconcile()
    assert reads == ["theirs", "theirs"], "what nodes can share they always can"


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
