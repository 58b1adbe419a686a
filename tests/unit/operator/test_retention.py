"""What deleted runs leave: cleaned up one by one, whatever becomes of the others, and no verdict that is needed."""

import asyncio
import json
from datetime import timedelta

import pytest
from tests.unit.operator.run_world import DIGEST, RunWorld

from slipway_operator import kinds, names
from slipway_operator.cluster_error import Invalid
from slipway_operator.retention import Retention

DONE = {"conditions": [{"type": "Complete", "status": "True"}]}


def look_after(world: RunWorld) -> timedelta | None:
    """A pass over the namespace."""
    retention = Retention(world.cluster, world.cluster.world, world.settings, lambda: world.now)  # type: ignore[arg-type]
    return asyncio.run(retention.reconcile("default"))


def delete(world: RunWorld) -> None:
    world.cluster.remove(kinds.TRAINING_RUN, "default", world.name)


def cleanup_done(world: RunWorld) -> None:
    (job,) = world.jobs()
    world.cluster.set_status(kinds.JOB, "default", job["metadata"]["name"], DONE)


def records(world: RunWorld) -> list[str]:
    return [cm["metadata"]["labels"]["slipway.dev/run"] for cm in roles(world, "plan")]


def roles(world: RunWorld, role: str) -> list[dict]:
    return [cm for cm in world.cluster.all(kinds.CONFIG_MAP) if cm["metadata"]["labels"][names.ROLE] == role]


def test_A_a_verdict_stays_for_the_other_run_that_made_the_same_model():
    world = RunWorld(name="first")
    world.train()
    world.evaluate()
    world.serve()
    other = RunWorld(name="second", cluster=world.cluster)
    other.now += timedelta(hours=1)
    other.train()
    other.evaluate()
    other.serve()
    delete(world)
    look_after(world)
    cleanup_done(world)
    look_after(world)
    assert records(world) == ["second"]
    assert world.cluster.one(kinds.CONFIG_MAP, names.verdict(DIGEST))
    world.cluster.remove(kinds.MODEL_ENDPOINT, "default", "chat")
    delete(other)
    look_after(other)
    cleanup_done(other)
    look_after(other)
    assert world.cluster.all(kinds.CONFIG_MAP) == [], "the last one takes it along"


def test_what_one_record_is_refused_for_keeps_no_other_waiting():
    world = RunWorld(name="first")
    world.settle()
    other = RunWorld(name="second", cluster=world.cluster)
    other.settle()
    delete(world)
    delete(other)
    world.cluster.fail_next("create", kinds.JOB, Invalid("spec.template: no"))
    with pytest.raises(Invalid):
        look_after(world)
    assert (len(world.jobs()), len(other.jobs())) == (0, 1)
    look_after(world)
    assert len(world.jobs()) == 1


@pytest.mark.parametrize(("field", "value"), [("namespace", "other-team"), ("uid", "f" * 36), ("name", "other")])
def test_H_a_record_that_is_about_another_run_cleans_nothing(field: str, value: str):
    world = RunWorld()
    world.settle()
    (record,) = roles(world, "plan")
    plan = json.loads(record["data"]["plan.json"])
    plan["run"][field] = value
    world.cluster.put({**record, "data": {"plan.json": json.dumps(plan)}})
    delete(world)
    look_after(world)
    assert world.cluster.all(kinds.JOB) == []


def test_a_cleanup_that_is_under_way_is_not_asked_about():
    world = RunWorld()
    world.settle()
    delete(world)
    look_after(world)
    asked = []
    world.cluster.get = lambda *about: asked.append(about)  # type: ignore[assignment,method-assign]
    assert look_after(world) is None
    assert asked == []


@pytest.mark.parametrize("already_cleaning", [False, True])
def test_a_claim_that_is_gone_needs_no_cleaning(already_cleaning: bool):
    world = RunWorld()
    world.settle()
    delete(world)
    if already_cleaning:
        look_after(world)
    world.cluster.remove(kinds.CLAIM, "default", names.WORKSPACE_CLAIM)
    world.now += timedelta(minutes=11)
    look_after(world)
    assert (world.jobs(), records(world)) == ([], [])
