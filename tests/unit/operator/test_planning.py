"""What runs is the plan that status names, whatever happens to its ConfigMap (invariant E)."""

import pytest
from tests.unit.operator.run_world import RunWorld

from slipway_operator import kinds, names
from slipway_operator.cluster_error import Conflict, QuotaExceeded


def plan_of(world: RunWorld):
    return world.cluster.one(kinds.CONFIG_MAP, names.plan(world.name, world.uid))


def lose_the_plan(world: RunWorld) -> None:
    world.cluster.remove(kinds.CONFIG_MAP, "default", names.plan(world.name, world.uid))


def test_E_a_plan_that_somebody_deleted_comes_back_as_it_was():
    world = RunWorld()
    world.settle()
    text = plan_of(world)["data"]
    lose_the_plan(world)
    world.settle()
    assert plan_of(world)["data"] == text
    lose_the_plan(world)
    world.start_operator()
    world.settle()
    assert plan_of(world)["data"] == text


def test_E_a_plan_that_cannot_be_made_again_stops_the_run_and_says_so():
    base = RunWorld(name="base")
    base.train()
    world = RunWorld(cluster=base.cluster, spec={"model": {"from": "run://base"}})
    world.settle()
    digest = world.run["status"]["planDigest"]
    world.cluster.remove(kinds.TRAINING_RUN, "default", "base")
    lose_the_plan(world)
    world.start_operator()
    world.end("prepare")
    world.settle()
    assert world.condition("Planned")["reason"] == "PlanLost"
    assert world.run["status"]["planDigest"] == digest
    assert world.jobs("learn") == []


def test_E_another_plan_under_the_name_of_a_runs_plan_is_not_run():
    world = RunWorld()
    world.settle()
    text = plan_of(world)["data"]
    other = RunWorld(cluster=world.cluster, name="other", spec={"retries": 7})
    other.settle()
    world.cluster.put({**plan_of(world), "data": plan_of(other)["data"]})
    world.start_operator()
    world.settle()
    assert plan_of(world)["data"] == text


def test_E_nothing_that_an_older_spec_made_runs_with_the_plan_of_a_newer_one():
    world = RunWorld()
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("edited meanwhile"))
    with pytest.raises(Conflict):
        world.reconcile()
    first = world.job("prepare")
    world.edit(compute={"nodeSelector": {"disk": "fast"}})
    world.settle()
    (job,) = world.jobs()
    assert job["metadata"]["uid"] != first["metadata"]["uid"]
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "fast"}


def test_H_a_plan_that_names_another_namespace_makes_nothing_there():
    world = RunWorld()
    world.settle()
    config_map = plan_of(world)
    forged = config_map["data"]["plan.json"].replace('"namespace": "default"', '"namespace": "other-team"')
    assert forged != config_map["data"]["plan.json"]
    world.cluster.put({**config_map, "data": {"plan.json": forged}})
    world.end("prepare")
    world.start_operator()
    world.settle()
    assert {job["metadata"]["namespace"] for job in world.cluster.all(kinds.JOB)} == {"default"}
    assert plan_of(world)["data"] == config_map["data"]


def test_a_plan_that_the_quota_has_no_room_for_is_a_condition():
    world = RunWorld()
    world.cluster.fail_next("create", kinds.CONFIG_MAP, QuotaExceeded("exceeded quota: configmaps"))
    assert world.reconcile() is not None
    assert world.condition("Refused")["reason"] == "QuotaExceeded"
    world.settle()
    assert world.phase == "Preparing"
