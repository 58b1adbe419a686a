"""What is beyond the limits of its namespace is left alone, says so once, and goes on once there is room."""

from __future__ import annotations

from tests.unit.operator.fake_cluster import FakeCluster
from tests.unit.operator.run_world import RunWorld

from slipway_operator.cache.room import Limits
from slipway_operator.cache.world import World
from slipway_operator.kube import kinds
from slipway_operator.kube.manifest import Manifest


def two_runs() -> tuple[RunWorld, RunWorld]:
    """Where one may be."""
    cluster = FakeCluster(World(Limits(runs=1)))
    return RunWorld(name="first", cluster=cluster), RunWorld(name="second", cluster=cluster)


def status(world: RunWorld) -> Manifest:
    return world.run.get("status", {})


def test_a_run_beyond_the_limit_says_so_once_and_makes_nothing():
    _, second = two_runs()
    second.settle()
    (condition,) = status(second)["conditions"]
    assert (condition["type"], condition["reason"]) == ("TooMany", "NamespaceTooLarge")
    assert "operator.limits.runs" in condition["message"]
    assert second.cluster.told() == ["NamespaceTooLarge"]
    assert second.jobs() == []


def test_a_run_goes_on_when_there_is_room_and_says_so_no_more():
    first, second = two_runs()
    second.settle()
    first.cluster.remove(kinds.TRAINING_RUN, "default", "first")
    second.settle()
    assert second.phase == "Preparing"
    assert second.condition("TooMany") is None


def test_B_a_run_whose_endpoint_is_beyond_the_limit_does_not_take_it_for_deleted():
    world = RunWorld()
    world.train()
    world.evaluate()
    world.serve()
    world.cluster.world = limited = World(Limits(endpoints=1))
    older = {"name": "older", "creationTimestamp": "2020-01-01T00:00:00Z"}
    world.cluster.put({**world.cluster.one(kinds.MODEL_ENDPOINT, "chat"), "metadata": older})
    for manifest in world.cluster.objects.values():
        limited.put(manifest)
    assert limited.aside(kinds.MODEL_ENDPOINT, "default", "chat") is not None
    before = status(world)
    world.start_operator()
    world.settle()
    assert status(world) == before, "it serves"
    world.cluster.put({**world.run, "status": {**before, "phase": "RollingOut"}})
    world.settle()
    assert world.condition("TooMany")["reason"] == "EndpointTooMany"


def test_nothing_is_decided_in_a_namespace_of_which_not_all_is_known():
    cluster = FakeCluster(World(Limits(memory=40_000)))
    for index in range(100):
        labels = {"app.kubernetes.io/managed-by": "slipway"}
        metadata = {"name": f"s-{index}", "namespace": "default", "labels": labels}
        cluster.put({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"text": "x" * 500}})
    world = RunWorld(cluster=cluster)
    world.settle()
    assert "Service" in world.condition("TooMany")["message"]
    assert world.jobs() == []
