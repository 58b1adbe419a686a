"""What runs is the plan that status names, whatever happens to its ConfigMap (invariant E)."""

import json
from collections.abc import Callable

import pytest
from tests.unit.operator.run_world import Manifest, RunWorld

from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Conflict, QuotaExceeded
from slipway_operator.runs import planning
from slipway_operator.settings import Settings


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
    world.persist()
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


def replace_the_plan(world: RunWorld, edit: Callable[[Manifest], object], *, labelled: bool = False) -> None:
    """Somebody deletes the plan and makes another one under its name, which without our label no watch tells of."""
    config_map = plan_of(world)
    lose_the_plan(world)
    plan = json.loads(config_map["data"]["plan.json"])
    edit(plan)
    metadata = {"name": config_map["metadata"]["name"], "labels": config_map["metadata"]["labels"] if labelled else {}}
    world.cluster.put({**config_map, "metadata": metadata, "data": {"plan.json": json.dumps(plan)}})
    if not labelled:
        world.cluster.world.remove(plan_of(world))


FORGERIES: dict[str, Callable[[Manifest], object]] = {
    "namespace": lambda plan: plan["run"].update(namespace="other-team"),
    "uid": lambda plan: plan["run"].update(uid="f" * 36),
    "image": lambda plan: plan["images"].update(train="evil:1"),
    "claim": lambda plan: plan.update(storage={"claimName": "of-somebody-else"}),
    "accelerator": lambda plan: plan.update(accelerator="example.com/dear"),
}


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_H_a_forged_plan_under_the_name_of_a_runs_plan_makes_nothing(forgery: str, restarted: bool, labelled: bool):
    world = RunWorld(spec={"compute": {"accelerator": "nvidia.com/gpu"}})
    world.settle()
    text = plan_of(world)["data"]
    world.end("prepare", code=75)
    replace_the_plan(world, FORGERIES[forgery], labelled=labelled)
    if restarted:
        world.start_operator()
    world.persist()
    world.persist()
    assert len(world.jobs("prepare")) == 2, "the run goes on"
    for job in world.cluster.all(kinds.JOB):
        assert job["metadata"]["namespace"] == "default"
        pod = job["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == world.settings.images.train
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == names.WORKSPACE_CLAIM
    assert plan_of(world)["data"] == text, "it is what the pods mount"
    assert plan_of(world)["metadata"]["labels"][names.ROLE] == "plan"


@pytest.mark.parametrize("forgery", ["namespace", "image", "claim", "accelerator"])
def test_H_a_forged_plan_that_is_there_before_a_run_is_planned_makes_nothing(forgery: str):
    world = RunWorld(spec={"compute": {"accelerator": "nvidia.com/gpu"}})
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("edited meanwhile"))
    with pytest.raises(Conflict):
        world.reconcile()
    text = plan_of(world)["data"]
    replace_the_plan(world, FORGERIES[forgery])
    world.persist()
    assert plan_of(world)["data"] == text
    assert {job["metadata"]["namespace"] for job in world.cluster.all(kinds.JOB)} == {"default"}


def test_E_a_run_under_way_keeps_its_image_when_a_newer_operator_has_another():
    world = RunWorld()
    world.settle()
    text = plan_of(world)["data"]
    world.settings = Settings.model_validate({"images": {"train": "slipway-train:newer"}})
    world.start_operator()
    world.end("prepare")
    world.settle()
    (container,) = world.job("learn")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "slipway-train:dev"
    assert plan_of(world)["data"] == text


def test_E_a_pod_of_an_older_spec_does_no_step_of_a_newer_one():
    world = RunWorld()
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("edited meanwhile"))
    with pytest.raises(Conflict):
        world.reconcile()
    world.end("prepare")
    pod = next(iter(world.cluster.all(kinds.POD)))
    world.edit(model={"scratch": {"tokenizer": {"train": {"vocabSize": 1024}}}})
    world.start_operator()
    for _ in range(4):
        with pytest.raises(Conflict, match="older spec"):
            world.reconcile()
        assert world.jobs() == []
    world.cluster.world.remove(pod)
    with pytest.raises(Conflict, match="older spec"):
        world.reconcile()
    world.cluster.remove(kinds.POD, "default", pod["metadata"]["name"])
    world.settle()
    assert (world.record("prepare")["state"], world.jobs("learn")) == ("Running", [])


def test_E_a_claim_that_was_edited_before_the_run_is_planned_is_the_new_one():
    world = RunWorld(spec={"storage": {"claimName": "old"}})
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("edited meanwhile"))
    with pytest.raises(Conflict):
        world.reconcile()
    world.edit(storage={"claimName": "new"})
    world.start_operator()
    world.persist()
    (volume, *_) = world.job("prepare")["spec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "new"


def test_H_a_forged_image_is_not_believed_because_a_job_says_the_same():
    world = RunWorld()
    world.settle()
    job = world.job("prepare")
    world.end("prepare", code=75)
    theirs = {**job["metadata"], "name": "theirs", "uid": "theirs", "resourceVersion": "0"}
    world.cluster.put({**job, "metadata": {**theirs, "annotations": {names.IMAGE: "evil:1"}}})
    replace_the_plan(world, FORGERIES["image"], labelled=True)
    world.start_operator()
    world.persist()
    world.cluster.remove(kinds.JOB, "default", "theirs")
    assert world.job("prepare")["metadata"]["labels"][names.ATTEMPT] == "2"
    for made in world.jobs():
        assert made["spec"]["template"]["spec"]["containers"][0]["image"] == world.settings.images.train


@pytest.mark.parametrize("lost", [False, True])
def test_E_the_image_that_a_run_was_planned_with_stays_whatever_becomes_of_its_record_and_its_jobs(lost: bool):
    world = RunWorld()
    world.settle()
    planned = world.settings.images.train
    assert world.run["status"]["trainImage"] == planned
    world.loses("prepare")
    if lost:
        lose_the_plan(world)
    world.settings = Settings.model_validate({"images": {"train": "slipway-train:next"}})
    world.start_operator()
    world.persist()
    (container,) = world.job("prepare")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == planned


def test_plans_that_have_no_more_room_in_memory_make_room_for_those_used_last(monkeypatch: pytest.MonkeyPatch):
    world = RunWorld(name="run-0")
    world.settle()
    size = len(plan_of(world)["data"]["plan.json"])
    monkeypatch.setattr(planning, "_KEPT_BYTES", 4 * size)
    for number in range(1, 10):
        world.create(f"run-{number}")
    uids = [world.cluster.one(kinds.TRAINING_RUN, f"run-{number}")["metadata"]["uid"] for number in range(10)]

    def looks_at(*numbers: int) -> list[int]:
        for number in numbers:
            world.reconcile(f"run-{number}")
        return [number for number, uid in enumerate(uids) if world.reconciler.plans.has_read(uid)]

    for number in range(10):
        looks_at(number, number, number)
    assert looks_at(6, 8) == [6, 7, 8, 9]
    for number in (6, 8, 9):
        world.cluster.remove(kinds.TRAINING_RUN, "default", f"run-{number}")
        world.reconcile(f"run-{number}")
    assert looks_at(1, 2, 3, 1) == [1, 2, 3, 7], "those that are gone left their room"
    assert looks_at(4) == [1, 2, 3, 4]
