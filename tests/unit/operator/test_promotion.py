"""An endpoint is told what to serve, or made whole from the run's template: never half of it."""

import pytest
from tests.unit.operator.run_world import RunWorld

from slipway_operator import kinds
from slipway_operator.cluster_error import Conflict

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
