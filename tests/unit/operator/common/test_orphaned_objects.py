"""What an owner that was deleted with `--cascade=orphan` leaves is ended, and nothing else is."""

import asyncio
from datetime import timedelta

import pytest
from tests.unit.operator.run_world import RunWorld
from tests.unit.operator.served_world import NAME, ServedWorld

from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.common.orphaned_objects import OrphanedObjects, suspects
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Forbidden
from slipway_operator.watch.event_mapping import woken

OURS = [{"manager": names.MANAGER, "operation": "Update"}]
MADE = (kinds.JOB, kinds.SERVICE, kinds.DEPLOYMENT, kinds.PDB, kinds.NETWORK_POLICY, kinds.HPA)


def marked(cluster, **metadata):
    """Everything there as the API server shows it, made by the operator."""
    for kind in MADE:
        for manifest in cluster.all(kind):
            cluster.put({**manifest, "metadata": {**manifest["metadata"], "managedFields": OURS, **metadata}})


def orphaned(cluster, kind, name):
    """As `kubectl delete --cascade=orphan`: the owner goes, and what it owned has no owner any more."""
    uid = cluster.one(kind, name)["metadata"]["uid"]
    for manifest in [manifest for made in MADE for manifest in cluster.all(made)]:
        owners = manifest["metadata"].get("ownerReferences", [])
        if uid in [owner["uid"] for owner in owners]:
            metadata = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
            cluster.put({**manifest, "metadata": {**metadata, "managedFields": OURS}})
    cluster.remove(kind, "default", name)


class Ender:
    def __init__(self, world):
        self.world = world
        self.orphans = OrphanedObjects(world.cluster, world.cluster.world, lambda: world.now)

    def end(self, uid=None):
        return asyncio.run(self.orphans.end("default", uid))

    def in_time(self, uid=None):
        """Looks, and looks again when that is due, for ten minutes."""
        until = self.world.now + timedelta(minutes=10)
        while (wait := self.end(uid)) is not None and self.world.now + wait < until:
            self.world.now += wait


def a_training_run(nodes=2) -> RunWorld:
    world = RunWorld(spec={"compute": {"nodes": nodes}})
    world.settle()
    world.end("prepare")
    world.settle()
    world.pod_of(world.job("learn"))
    return world


def test_the_jobs_and_the_service_of_a_run_that_was_orphaned_are_ended():
    world = a_training_run()
    uid = world.uid
    orphaned(world.cluster, kinds.TRAINING_RUN, "demo")
    ender = Ender(world)
    assert ender.end() == timedelta(minutes=1), "the cache may be behind"
    assert len(world.jobs()) == 2
    ender.in_time(uid)
    assert (world.jobs(), world.cluster.all(kinds.SERVICE)) == ([], [])
    told = [event["message"] for event in world.cluster.all(kinds.EVENT) if event["reason"] == "Orphaned"]
    assert "the run demo was deleted and this Job was left without an owner: it is deleted too" in told
    assert world.cluster.all(kinds.CONFIG_MAP) != [], "the record stays for what cleans up"


def test_an_operator_that_starts_later_finds_them_and_an_event_wakes_one_that_runs():
    world = a_training_run()
    before = world.job("learn")
    orphaned(world.cluster, kinds.TRAINING_RUN, "demo")
    after = world.job("learn")
    assert Key("Namespace", "default", before["metadata"]["labels"][names.RUN_UID]) in set(
        woken(world.cluster.world, before, after)
    )
    assert {manifest["kind"] for manifest in suspects(world.cluster.world)} == {"Job", "Service"}


def test_a_deployment_that_loses_its_owner_after_that_is_gone_wakes_who_looks_after_orphans():
    world = ServedWorld()
    world.serve("a", unjudged=True)
    world.goes_live()
    before = world.deployment(1)
    orphaned(world.cluster, kinds.MODEL_ENDPOINT, NAME)
    assert Key("Namespace", "default", "default") in set(woken(world.cluster.world, before, world.deployment(1)))


def test_jobs_of_a_run_that_lives_or_that_goes_with_its_jobs_are_left_alone():
    world = a_training_run()
    marked(world.cluster)
    ender = Ender(world)
    ender.in_time()
    jobs = world.jobs()
    world.cluster.remove(kinds.TRAINING_RUN, "default", "demo")
    for job in jobs:
        world.cluster.put(job)  # The garbage collector has not come by yet.
    ender.in_time()
    assert len(world.jobs()) == 2


def test_a_run_that_the_cache_does_not_know_yet_keeps_its_jobs():
    world = a_training_run()
    marked(world.cluster, ownerReferences=[])
    run = world.run
    world.cluster.world.remove(run)
    Ender(world).in_time()
    assert len(world.jobs()) == 2


@pytest.mark.parametrize(
    "theirs",
    [
        {"managedFields": [{"manager": "kubectl-create"}]},
        {"name": "my-copy"},
        {"ownerReferences": [{"kind": "CronJob", "name": "mine", "uid": "u", "controller": True}]},
        {"labels": {"slipway.dev/run": "demo", "slipway.dev/run-uid": "gone"}},
    ],
    ids=["made-by-somebody", "another-name", "owned", "without-our-label"],
)
def test_what_looks_like_ours_and_is_somebodys_is_left_alone(theirs):
    world = a_training_run()
    job = world.job("learn")
    world.cluster.remove(kinds.TRAINING_RUN, "default", "demo")
    metadata = {**job["metadata"], "ownerReferences": [], "managedFields": OURS, "uid": "theirs", **theirs}
    world.cluster.put({**job, "metadata": metadata})
    Ender(world).in_time()
    assert [one["metadata"]["uid"] for one in world.cluster.all(kinds.JOB)] == ["theirs"]


def test_a_cleanup_job_without_its_record_ends_its_work_before_it_goes():
    world = a_training_run()
    uid = world.uid
    orphaned(world.cluster, kinds.TRAINING_RUN, "demo")
    for pod in world.cluster.all(kinds.POD):
        world.cluster.remove(kinds.POD, "default", pod["metadata"]["name"])
    (record,) = world.cluster.all(kinds.CONFIG_MAP)
    labels = names.run_labels("demo", uid, "cleanup")
    metadata = {"name": names.cleanup("demo", uid), "labels": labels, "managedFields": OURS}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}}
    world.cluster.put(job)
    ender = Ender(world)
    ender.in_time()
    cleanup = ("Job", "default", names.cleanup("demo", uid))
    assert cleanup in world.cluster.objects, "its record is there"
    world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    ender.in_time()
    assert cleanup in world.cluster.objects, "it is at work"
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    world.cluster.set_status(kinds.JOB, "default", cleanup[2], done)
    world.now += timedelta(minutes=10)
    ender.in_time()
    assert cleanup not in world.cluster.objects


def test_what_an_endpoint_that_was_orphaned_has_left_is_ended_and_its_name_is_free():
    world = ServedWorld()
    world.serve("a", unjudged=True, autoscaling={"minReplicas": 1, "maxReplicas": 2})
    world.goes_live()
    left = [manifest for kind in MADE for manifest in world.cluster.all(kind)]
    assert {manifest["kind"] for manifest in left} == {kind.kind for kind in MADE} - {"Job"}
    orphaned(world.cluster, kinds.MODEL_ENDPOINT, NAME)
    Ender(world).in_time()
    assert [manifest for kind in MADE for manifest in world.cluster.all(kind)] == []


def test_an_endpoint_that_is_made_again_is_not_kept_from_its_name_by_what_the_one_before_it_left():
    world = ServedWorld()
    world.serve("a", unjudged=True)
    world.goes_live()
    orphaned(world.cluster, kinds.MODEL_ENDPOINT, NAME)
    world.wait(5)
    world.serve("b", unjudged=True)
    world.reconcile()
    world.reconcile()
    assert world.condition("Refused")["reason"] == "NameTaken"
    old = world.cluster.one(kinds.DEPLOYMENT, names.version(NAME, 1))["metadata"]["uid"]
    Ender(world).in_time()
    assert old not in [made["metadata"]["uid"] for made in world.cluster.all(kinds.DEPLOYMENT)]
    world.goes_live()


def test_what_an_endpoint_owns_is_left_alone():
    world = ServedWorld()
    world.serve("a", unjudged=True)
    world.goes_live()
    marked(world.cluster)
    Ender(world).in_time()
    assert world.deployed() == [1]
    assert world.cluster.one(kinds.SERVICE, NAME)


def test_what_the_role_does_not_allow_keeps_nothing_else_waiting():
    world = a_training_run()
    orphaned(world.cluster, kinds.TRAINING_RUN, "demo")
    ender = Ender(world)
    ender.end()
    world.now += timedelta(minutes=1)
    world.cluster.fail_next("delete", kinds.JOB, Forbidden("no"))
    assert ender.end() == timedelta(minutes=10)
    assert (len(world.jobs()), world.cluster.all(kinds.SERVICE)) == (1, [])
