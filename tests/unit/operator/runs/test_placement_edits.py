"""Where a run runs may be edited between two attempts: each has its own, and what the run does stays (invariant E)."""

from __future__ import annotations

import json

import pytest
from tests.unit.operator.run_world import Manifest, RunWorld

from slipway_core import plan as plans
from slipway_core.resources.training_run import TrainingRun
from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Conflict
from slipway_operator.settings import Settings

HERE = {"nodes": 2, "processesPerNode": 4, "queue": "day"}
THERE = {"nodes": 3, "processesPerNode": 1, "queue": "night", "nodeSelector": {"disk": "fast"}, "podLabels": {"a": "b"}}


def numbers(job: Manifest) -> tuple[int, dict[str, str]]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    told = {one["name"]: one.get("value") for one in container["env"]}
    return job["spec"]["completions"], {name: told[name] for name in ("SLIPWAY_NODES", "SLIPWAY_PROCESSES_PER_NODE")}


def plan_of(world: RunWorld) -> Manifest:
    return world.cluster.one(kinds.CONFIG_MAP, names.plan(world.name, world.uid))


def in_training(**compute: object) -> RunWorld:
    world = RunWorld(spec={"compute": compute})
    world.settle()
    world.end("prepare")
    world.settle()
    return world


def suspended(world: RunWorld) -> RunWorld:
    world.edit(suspend=True)
    world.settle()
    assert (world.phase, world.jobs("learn")) == ("Suspended", [])
    return world


@pytest.mark.parametrize("restarted", [False, True])
def test_E_the_next_attempt_goes_where_the_resource_says_by_then(restarted: bool):
    world = in_training(**HERE)
    record, digest = plan_of(world), world.run["status"]["planDigest"]
    assert numbers(world.job("learn")) == (2, {"SLIPWAY_NODES": "2", "SLIPWAY_PROCESSES_PER_NODE": "4"})
    suspended(world)
    world.edit(compute=THERE)
    if restarted:
        world.start_operator()
    world.settle()
    assert world.phase == "Suspended"
    world.edit(suspend=False)
    world.settle()
    job = world.job("learn")
    assert numbers(job) == (3, {"SLIPWAY_NODES": "3", "SLIPWAY_PROCESSES_PER_NODE": "1"})
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "fast"}
    assert job["spec"]["template"]["metadata"]["labels"]["a"] == "b"
    assert (world.record("learn")["attempt"], world.record("learn")["nodes"]) == (2, 3)
    assert (plan_of(world), world.run["status"]["planDigest"]) == (record, digest), "what it does is as it was"


def test_E_a_record_of_a_run_that_was_edited_comes_back_with_its_digest():
    world = suspended(in_training(**HERE))
    world.edit(compute=THERE)
    world.cluster.remove(kinds.CONFIG_MAP, "default", names.plan(world.name, world.uid))
    world.start_operator()
    world.edit(suspend=False)
    world.settle()
    assert numbers(world.job("learn"))[0] == 3
    assert json.loads(plan_of(world)["data"]["plan.json"])["digest"] == world.run["status"]["planDigest"]


def test_E_an_attempt_that_was_made_before_an_edit_is_adopted_as_it_was_made():
    world = RunWorld(spec={"compute": HERE})
    world.settle()
    world.end("prepare")
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("edited meanwhile"))
    with pytest.raises(Conflict):
        world.reconcile()
    made = world.job("learn")
    world.pod_of(made)
    world.edit(compute=THERE)
    world.start_operator()
    world.persist()
    assert [job["metadata"]["uid"] for job in world.jobs("learn")] == [made["metadata"]["uid"]]
    assert (world.record("learn")["nodes"], world.record("learn")["processesPerNode"]) == (2, 4)
    assert "the edit of compute counts from the next attempt" in world.condition("Progressing")["message"]


@pytest.mark.parametrize("restarted", [False, True])
def test_E_an_attempt_without_a_place_is_made_anew_where_the_resource_says(restarted: bool):
    """Suspended with the edit and resumed, both before a pass saw the suspension."""
    world = in_training(**HERE)
    waits = world.job("learn")
    world.edit(suspend=True, compute=THERE)
    world.edit(suspend=False)
    if restarted:
        world.start_operator()
    world.reconcile()
    assert world.condition("Progressing")["reason"] == "Moved"
    world.persist()
    (job,) = world.jobs("learn")
    assert job["metadata"]["uid"] != waits["metadata"]["uid"]
    assert (numbers(job)[0], job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]) == (3, "night")
    record = world.record("learn")
    assert (record["attempt"], record["nodes"], record["stalls"], record["failures"]) == (2, 3, 0, 0)


def test_E_a_job_that_a_release_made_which_marked_no_place_goes_on():
    world = in_training(**HERE)
    made = world.job("learn")
    notes = {name: value for name, value in made["metadata"]["annotations"].items() if name != names.PLACE}
    world.cluster.put({**made, "metadata": {**made["metadata"], "annotations": notes}})
    world.edit(compute=THERE)
    world.start_operator()
    world.persist()
    assert [job["metadata"]["uid"] for job in world.jobs("learn")] == [made["metadata"]["uid"]]


def test_an_edit_of_nodes_moves_no_step_that_is_one_process():
    world = RunWorld(spec={"compute": HERE})
    world.settle()
    (made,) = world.jobs("prepare")
    world.edit(compute={**HERE, "nodes": 5})
    world.persist()
    assert [job["metadata"]["uid"] for job in world.jobs("prepare")] == [made["metadata"]["uid"]]


def test_an_edit_of_what_the_chart_fills_in_moves_nothing():
    world = in_training(**HERE)
    made = world.jobs()
    world.settings = Settings.model_validate({"training": {"nodeSelector": {"disk": "fast"}}})
    world.start_operator()
    world.persist()
    assert world.jobs() == made


def test_H_a_job_that_says_another_number_than_it_has_pods_is_none_of_ours():
    world = RunWorld(spec={"compute": HERE})
    world.settle()
    world.end("prepare")
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("edited meanwhile"))
    with pytest.raises(Conflict):
        world.reconcile()
    made = world.job("learn")
    world.cluster.put({**made, "spec": {**made["spec"], "completions": 5}})
    world.start_operator()
    world.persist()
    (job,) = world.jobs("learn")
    assert (job["metadata"]["uid"] != made["metadata"]["uid"], job["spec"]["completions"]) == (True, 2)


def as_version_1(world: RunWorld) -> None:
    """The record, the status and the Jobs are those of a release that knew no version 2."""
    run = TrainingRun.model_validate({**world.run, "status": None}, by_alias=True, by_name=False)
    config_map = plan_of(world)
    written = plans.load(config_map["data"]["plan.json"])
    plan = plans.resolve(run, plans.ExecutorDefaults(images=written.images), version=1)
    world.cluster.put({**config_map, "data": {"plan.json": plan.to_json()}})
    world.cluster.set_status(
        kinds.TRAINING_RUN, "default", world.name, {**world.run["status"], "planDigest": plan.digest}
    )
    world.start_operator()


def test_E_a_run_that_an_earlier_release_planned_goes_on_with_its_digest_and_its_record():
    world = in_training(**HERE)
    as_version_1(world)
    record, digest, jobs = plan_of(world), world.run["status"]["planDigest"], world.jobs()
    world.settle()
    assert (plan_of(world), world.run["status"]["planDigest"], world.jobs()) == (record, digest, jobs)
    world.cluster.remove(kinds.CONFIG_MAP, "default", record["metadata"]["name"])
    world.start_operator()
    world.end("learn")
    world.settle()
    again = json.loads(plan_of(world)["data"]["plan.json"])
    assert (again["version"], again["digest"]) == (1, digest), "it can be made again"
    assert world.job("export")


def test_E_a_record_of_version_1_that_no_status_names_yet_is_kept():
    world = RunWorld(spec={"compute": HERE})
    world.settle()
    as_version_1(world)
    record, jobs = plan_of(world), world.jobs()
    status = {name: value for name, value in world.run["status"].items() if name not in ("planDigest", "trainImage")}
    world.cluster.set_status(kinds.TRAINING_RUN, "default", world.name, status)
    world.start_operator()
    world.persist()
    assert (plan_of(world)["data"], world.jobs()) == (record["data"], jobs)
    assert world.run["status"]["planDigest"] == json.loads(record["data"]["plan.json"])["digest"]


def test_E_nodes_of_a_run_that_an_earlier_release_planned_are_refused_and_its_queue_is_not():
    world = in_training(**HERE)
    as_version_1(world)
    suspended(world)
    world.edit(compute=THERE, suspend=False)
    world.reconcile()
    refused = world.condition("Refused")
    assert refused["reason"] == "PlanFixesProcesses"
    assert "compute.nodes is 3, and its plan has 2" in refused["message"]
    assert (world.jobs("learn"), world.record("learn")["nodes"]) == ([], 2)
    world.edit(compute={**HERE, "queue": "night"})
    world.settle()
    job = world.job("learn")
    assert (job["spec"]["completions"], world.condition("Refused")) == (2, None)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"compute": {"podTemplate": "fast"}}, "compute.podTemplate: 'fast' is none of defaults.training.podTemplates"),
        (
            {"serving": {"endpoint": "chat", "template": {"podTemplate": "fast"}}},
            "serving.template.podTemplate: 'fast' is none of defaults.serving.podTemplates",
        ),
    ],
)
def test_a_run_whose_pod_template_the_chart_does_not_have_waits_until_it_has(spec: Manifest, field: str):
    world = RunWorld(spec=spec)
    world.reconcile()
    planned = world.condition("Planned")
    assert (planned["status"], planned["reason"], world.jobs()) == ("False", "PodTemplateUnknown", [])
    assert planned["message"].startswith(field)
    templates = {"podTemplates": {"fast": {}}}
    world.settings = Settings.model_validate({"training": templates, "serving": templates})
    world.start_operator()
    world.settle()
    assert world.phase == "Preparing"


def test_E_a_chart_that_has_a_template_no_more_stops_no_attempt_and_the_next_one_says_so():
    world = RunWorld(
        spec={"compute": {"podTemplate": "fast"}},
        settings=Settings.model_validate({"training": {"podTemplates": {"fast": {}}}}),
    )
    world.settle()
    world.settings = Settings()
    world.start_operator()
    world.settle()
    assert world.phase == "Preparing"
    world.end("prepare")
    world.reconcile()
    assert world.condition("Refused")["reason"] == "PodTemplateUnknown"
    assert world.record("prepare")["state"] == "Succeeded"
