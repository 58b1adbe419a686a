"""An endpoint that was deleted and made again under its name is another one, whatever the first one left."""

import pytest
from tests.unit.operator.served_world import NAME, NAMESPACE, ServedWorld

from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Conflict


def live_world() -> ServedWorld:
    world = ServedWorld()
    world.passes("a")
    world.serve("a")
    world.goes_live()
    return world


def uid_of_owner(manifest) -> str:
    return manifest["metadata"]["ownerReferences"][0]["uid"]


def test_a_version_is_never_made_from_a_deployment_of_the_endpoint_before():
    world = live_world()
    first = world.endpoint["metadata"]["uid"]
    world.cluster.remove(kinds.MODEL_ENDPOINT, NAMESPACE, NAME)
    world.pods_are_gone(1)
    world.wait(1)
    world.serve("a")
    world.settle()
    assert world.endpoint["metadata"]["uid"] != first
    world.becomes_ready(1)
    world.answers(1)
    world.settle()
    world.cluster.remove(kinds.DEPLOYMENT, NAMESPACE, world.deployment(1)["metadata"]["name"])
    world.settle()
    assert uid_of_owner(world.deployment(1)) == world.endpoint["metadata"]["uid"]


def test_an_endpoint_does_not_wait_for_what_is_gone_of_the_one_before():
    world = live_world()
    policy = world.cluster.one(kinds.NETWORK_POLICY, NAME)
    world.cluster.remove(kinds.MODEL_ENDPOINT, NAMESPACE, NAME)
    world.pods_are_gone(1)
    world.reconcile()
    world.cluster.put(policy)
    world.wait(1)
    world.serve("a")
    with pytest.raises(Conflict, match="it is going"):
        world.settle()
    # No watch tells of a NetworkPolicy: the cache has it still.
    del world.cluster.objects[kinds.NETWORK_POLICY.kind, NAMESPACE, NAME]
    world.settle()
    assert world.deployed() == [1]
    assert uid_of_owner(world.cluster.one(kinds.NETWORK_POLICY, NAME)) == world.endpoint["metadata"]["uid"]


def test_nothing_is_remembered_of_endpoints_that_are_gone():
    world = live_world()
    world.cluster.remove(kinds.MODEL_ENDPOINT, NAMESPACE, NAME)
    world.reconcile()
    reconciler = world.reconciler
    assert (reconciler.writes._last, reconciler.versions._known, reconciler.owned._read) == ({}, {}, {})
    assert (reconciler._refused, reconciler._uids) == ({}, {})
