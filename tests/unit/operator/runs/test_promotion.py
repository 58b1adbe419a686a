"""An endpoint is told what to serve, or made whole from the run's template: never half of it."""

import pytest
from tests.unit.operator.run_world import RunWorld

from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Conflict

KEYS = {"endpoint": "chat", "template": {"access": {"keysSecret": "keys"}}}


def test_H_an_endpoint_that_is_deleted_while_it_is_told_does_not_come_back_open_to_all():
    world = RunWorld(spec={"serving": KEYS})
    other = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": "chat"}, "spec": {}}
    world.cluster.put(other)
    world.train()
    # No watch has told of it yet.
    gone = world.cluster.objects.pop((kinds.MODEL_ENDPOINT.kind, "default", "chat"))
    with pytest.raises(Conflict):
        world.evaluate()
    assert world.cluster.all(kinds.MODEL_ENDPOINT) == []
    world.cluster.world.remove(gone)
    world.settle()
    assert world.cluster.one(kinds.MODEL_ENDPOINT, "chat")["spec"]["access"] == {"keysSecret": "keys"}


def test_G_a_rollback_by_hand_stays_and_the_run_is_completed_with_the_way_on():
    world = RunWorld()
    pinned = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": "chat"}}
    world.cluster.put({**pinned, "spec": {"rollbackTo": 1}})
    world.train()
    world.evaluate()
    assert world.phase == "RollingOut"
    endpoint = world.cluster.one(kinds.MODEL_ENDPOINT, "chat")
    status = {"observedGeneration": endpoint["metadata"]["generation"], "phase": "Serving"}
    world.cluster.set_status(kinds.MODEL_ENDPOINT, "default", "chat", status)
    world.settle()
    assert (endpoint["spec"]["rollbackTo"], endpoint["spec"]["model"]["run"]) == (1, "demo")
    assert world.phase == "Completed"
    assert "spec.rollbackTo; clear it" in world.condition("Live")["message"]
