"""An endpoint is told what to serve, or made whole from the run's template: never half of it."""

from types import SimpleNamespace

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


def told_by_a_later_run(world: RunWorld) -> dict:
    endpoint = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": "chat"}}
    there = world.cluster.objects.get((kinds.MODEL_ENDPOINT.kind, "default", "chat"), endpoint)
    notes = {"slipway.dev/run-created": "2027-01-01T00:00:00Z", "slipway.dev/run-uid": "later"}
    model = {"uri": "pvc://c/later/artifact", "digest": "sha256:" + "b" * 64, "run": "later"}
    return {**there, "metadata": {**there["metadata"], "annotations": notes}, "spec": {"model": model}}


def test_an_endpoint_that_a_later_run_was_told_to_during_the_pass_is_left_to_it():
    world = RunWorld()
    world.cluster.put({**told_by_a_later_run(world), "spec": {}})
    world.train()
    keep = world.reconciler.verdicts.keep

    async def meanwhile(*arguments, **more):
        await keep(*arguments, **more)
        world.cluster.put(told_by_a_later_run(world))

    world.reconciler.verdicts = SimpleNamespace(keep=meanwhile, lacks=lambda plan, status: False)
    world.evaluate()
    assert world.cluster.one(kinds.MODEL_ENDPOINT, "chat")["spec"]["model"]["run"] == "later"
    assert world.phase == "Completed"
    assert "run later was created later" in world.condition("Live")["message"]


def test_an_endpoint_that_changed_before_any_watch_told_of_it_is_looked_at_again():
    world = RunWorld()
    world.cluster.put({**told_by_a_later_run(world), "spec": {}})
    world.train()
    world.end_evaluation()
    key = (kinds.MODEL_ENDPOINT.kind, "default", "chat")
    newer = told_by_a_later_run(world)
    world.cluster.objects[key] = {**newer, "metadata": {**newer["metadata"], "resourceVersion": "99999"}}
    with pytest.raises(Conflict, match="has been modified"):
        world.settle()
    assert world.cluster.objects[key]["spec"]["model"]["run"] == "later"
