import asyncio

from tests.unit.operator.fake_cluster import FakeCluster
from tests.unit.operator.run_world import RunWorld

from slipway_operator.cache.key import Key
from slipway_operator.cache.room import Limits
from slipway_operator.cache.world import World
from slipway_operator.kube import kinds
from slipway_operator.loop.work_queue import WorkQueue
from slipway_operator.watch.resync import Resync


def resynced(world: RunWorld) -> list[Key]:
    """The keys that a resync which is not the first makes ready."""
    queue = WorkQueue(lambda: 0.0)

    async def pages(kind, namespace=None, selector=None):
        yield await world.cluster.list(kind, namespace, selector)

    world.cluster.pages = pages  # type: ignore[attr-defined]
    asyncio.run(Resync(world.cluster, world.cluster.world, queue, ()).once(first=False))  # type: ignore[arg-type]
    found: list[Key] = []
    while (key := queue._next()) is not None:
        found.append(key)
    return found


def test_G_a_run_that_serves_learns_of_an_endpoint_whose_deletion_no_watch_told():
    world = RunWorld()
    world.train()
    world.evaluate()
    world.serve()
    run = Key("TrainingRun", "default", "demo")
    assert run not in resynced(world)
    del world.cluster.objects[kinds.MODEL_ENDPOINT.kind, "default", "chat"]
    assert run in resynced(world)
    world.settle()
    assert world.condition("Live")["reason"] == "EndpointDeleted"


def test_the_first_passes_are_made_in_the_order_in_which_the_runs_were_created():
    cluster = FakeCluster(World(Limits(runs=2)))
    for name, day in (("c", 1), ("a", 2), ("b", 3)):
        metadata = {"name": name, "namespace": "default", "creationTimestamp": f"2026-01-0{day}T00:00:00Z"}
        cluster.put({"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingRun", "metadata": metadata, "spec": {}})
    resync = Resync(cluster, cluster.world, WorkQueue(lambda: 0.0), ())  # type: ignore[arg-type]
    assert [key.name for key in resync._everything()] == ["c", "a", "b"], "the one that is set aside is told"
