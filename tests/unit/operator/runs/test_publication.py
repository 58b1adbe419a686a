"""The step that tells others of a verdict, on an API server in memory: beside the run, and in the way of nothing."""

import json

import pytest
from tests.unit.operator.run_world import DIGEST, RunWorld

from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Forbidden, QuotaExceeded

TRACKED = {"tracking": {"tensorboard": {}, "wandb": {"project": "p", "credentials": "wandb"}}}
PUSHED = {"export": {"push": {"uri": "hf://org/name", "credentials": "writer"}}}


def environment(world: RunWorld, step: str = "publish") -> dict:
    (container,) = world.job(step)["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def test_without_trackers_there_is_no_such_step():
    world = RunWorld()
    world.train()
    world.evaluate()
    assert world.jobs("publish") == []
    assert world.condition("Published") is None
    assert [stage["name"] for stage in world.run["status"]["stages"]] == ["prepare", "learn", "export", "evaluate"]


def test_a_pass_is_published_beside_the_rollout_with_the_secrets_of_that_step_alone():
    world = RunWorld(spec={**TRACKED, **PUSHED})
    world.train()
    world.evaluate()
    assert world.phase == "RollingOut"
    told = environment(world)
    assert json.loads(told["SLIPWAY_JUDGED"])["verdict"] == "Pass"
    assert (told["SLIPWAY_ARTIFACT_DIGEST"], json.loads(told["SLIPWAY_TRACKING"])) == (DIGEST, TRACKED["tracking"])
    secrets = [value["secretKeyRef"]["name"] for value in told.values() if "secretKeyRef" in value]
    assert secrets == ["wandb", "writer"]
    world.serve()
    assert world.phase == "Serving"
    world.end("publish", result={"progress": {"links": {"wandb": "https://wandb.ai/t/p/runs/x"}}})
    world.settle()
    assert (world.phase, world.condition("Published")["status"]) == ("Serving", "True")
    assert world.record("publish")["progress"]["links"] == {"wandb": "https://wandb.ai/t/p/runs/x"}


def test_a_failed_gate_is_told_and_nothing_is_pushed():
    world = RunWorld(spec={**TRACKED, **PUSHED})
    world.train()
    world.evaluate(perplexity=30.0)
    assert world.phase == "Rejected"
    assert json.loads(environment(world)["SLIPWAY_JUDGED"])["verdict"] == "Fail"
    only_pushed = RunWorld(spec=PUSHED)
    only_pushed.train()
    only_pushed.evaluate(perplexity=30.0)
    assert only_pushed.jobs("publish") == []
    assert only_pushed.condition("Published")["reason"] == "NotPassed"


def test_a_tracker_that_is_away_leaves_the_run_as_it_is_and_a_condition():
    world = RunWorld(spec={**TRACKED, "retries": 0})
    world.train()
    world.evaluate()
    world.serve()
    world.end("publish", 1, {"error": {"kind": "TrackerAway", "message": "wandb does not answer"}})
    world.settle()
    found = world.condition("Published")
    assert (world.phase, found["status"], found["reason"]) == ("Serving", "False", "PublishFailed")
    assert "TrackerAway: wandb does not answer" in found["message"]
    assert world.run["status"]["evaluation"]["verdict"] == "Pass"


@pytest.mark.parametrize("refused", [Forbidden("denied by the webhook"), QuotaExceeded("exceeded quota: jobs")])
def test_a_publish_job_that_is_refused_does_not_hold_the_rollout_back(refused):
    world = RunWorld(spec=TRACKED)
    world.train()
    world.end_evaluation()
    for _ in range(3):
        world.cluster.fail_next("create", kinds.JOB, refused)
        world.reconcile()
    assert world.phase == "RollingOut"
    assert world.cluster.one(kinds.MODEL_ENDPOINT, "chat")["spec"]["model"]["digest"] == DIGEST
    assert world.condition("Published")["message"] == f"publish cannot start: {refused}"
    assert world.jobs("publish") == []


def test_a_run_that_is_still_published_outlives_its_time():
    world = RunWorld(spec={**TRACKED, "retention": {"ttlAfterFinished": "1s"}})
    world.train()
    world.evaluate(perplexity=30.0)
    world.now = world.now.replace(hour=20)
    world.reconcile()
    assert world.phase == "Rejected"
    world.end("publish")
    world.settle()
    world.reconcile()
    assert world.cluster.all(kinds.TRAINING_RUN) == []


def test_E_a_tracker_that_is_edited_is_told_by_the_next_attempt_and_the_plan_stays():
    world = RunWorld(spec=TRACKED)
    world.settle()
    record = world.cluster.all(kinds.CONFIG_MAP)
    world.end("prepare")
    world.edit(tracking={"mlflow": {"uri": "http://mlflow", "experiment": "e"}})
    world.settle()
    told = environment(world, "learn")
    assert json.loads(told["SLIPWAY_TRACKING"]) == {"mlflow": {"uri": "http://mlflow", "experiment": "e"}}
    assert "WANDB_API_KEY" not in told
    assert world.cluster.all(kinds.CONFIG_MAP) == record


def test_an_operator_that_starts_anew_takes_up_what_is_under_way():
    world = RunWorld(spec=TRACKED)
    world.train()
    world.evaluate(perplexity=30.0)
    world.start_operator()
    world.settle()
    assert len(world.jobs("publish")) == 1
    world.end("publish", 1)
    world.settle()
    world.now = world.now.replace(hour=13)
    world.start_operator()
    world.settle()
    assert len(world.jobs("publish")) == 2
