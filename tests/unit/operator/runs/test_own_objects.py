"""Labels are no proof: what a run's record has, and what does an attempt's work, speaks for it, and nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.unit.operator.kube_objects import a_result
from tests.unit.operator.manifests.samples import a_job, a_plan
from tests.unit.operator.run_world import DIGEST, RunWorld

from slipway_core.protocol.commands import Inputs
from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Conflict
from slipway_operator.manifests.run import same_work

Manifest = dict[str, Any]
FORGED = {"metrics": {"perplexity": 1.0}, "evaluation": {"number": 1, "artifactDigest": DIGEST, "scoredTokens": 9999}}


def forge(world: RunWorld, job: Manifest, name: str, code: int, result: Manifest, **labels: str) -> None:
    """Somebody copies a Job, labels, ownerReferences and all, and its pod ends as they please."""
    theirs = copy.deepcopy(job)
    theirs["metadata"] = {
        "name": name,
        "labels": {**job["metadata"]["labels"], **labels},
        "ownerReferences": job["metadata"]["ownerReferences"],
        "annotations": job["metadata"].get("annotations", {}),
    }
    theirs["status"] = {"conditions": [{"type": "Failed" if code else "Complete", "status": "True", "reason": "R"}]}
    made = world.cluster.put(theirs)
    own = made["metadata"]["labels"]
    word = json.dumps(a_result(own[names.STEP], int(own[names.ATTEMPT]), **result))
    state = {"terminated": {"exitCode": code, "message": word, "finishedAt": "2026-01-01T12:00:00Z"}}
    phase = "Failed" if code else "Succeeded"
    world.pod_of(made, phase=phase, containerStatuses=[{"name": "trainer", "state": state}])


def test_a_labelled_copy_of_a_job_fails_no_run():
    world = RunWorld()
    world.settle()
    forge(world, world.job("prepare"), "copy", 2, {"error": {"kind": "BadData", "message": "no"}})
    world.settle()
    assert (world.phase, world.record("prepare")["state"]) == ("Preparing", "Running")
    world.end("prepare")
    world.settle()
    assert world.record("prepare")["state"] == "Succeeded"


@pytest.mark.parametrize("attempt", ["1", "2"])
def test_A_a_forged_evaluation_is_no_verdict(attempt: str):
    world = RunWorld()
    world.train()
    job = world.job("evaluate")
    name = "copy" if attempt == "1" else names.job("demo", "evaluate", 2)
    job["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    forge(world, job, name, 0, FORGED, **{names.ATTEMPT: attempt})
    world.settle()
    assert (world.phase, world.run["status"].get("evaluation")) == ("Evaluating", None)


def test_A_a_pod_with_the_labels_of_an_evaluation_is_no_verdict():
    world = RunWorld()
    world.train()
    job = world.job("evaluate")
    word = json.dumps(a_result("evaluate", 1, **FORGED))
    state = {"terminated": {"exitCode": 0, "message": word, "finishedAt": "2026-01-01T12:00:00Z"}}
    pod = world.pod_of(job, phase="Succeeded", containerStatuses=[{"name": "trainer", "state": state}])
    for owners in ([], [{"kind": "Job", "name": job["metadata"]["name"], "uid": "another", "controller": True}]):
        world.cluster.put({**pod, "metadata": {**pod["metadata"], "ownerReferences": owners}})
        complete = {"conditions": [{"type": "Complete", "status": "True", "reason": "R"}]}
        world.cluster.set_status(kinds.JOB, "default", job["metadata"]["name"], complete)
        world.reconcile()
        assert world.run["status"].get("evaluation") is None


def died_before_it_was_recorded(step: str = "prepare") -> RunWorld:
    world = RunWorld()
    if step != "prepare":
        world.settle()
        world.end("prepare")
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("died here"))
    with pytest.raises(Conflict):
        world.reconcile()
    world.start_operator()
    return world


def change(job: Manifest, what: str) -> None:
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    match what:
        case "image":
            container["image"] = "evil:1"
        case "args":
            container["args"][-1] = "/workspace/another"
        case "command":
            container["command"] = ["sh", "-c", "exit 2"]
        case "env":
            container["env"].append({"name": "PYTHONPATH", "value": "/workspace/evil"})
        case "volumeMounts":
            container["volumeMounts"][0]["subPath"] = "another"
        case "volumes":
            pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = "another"
        case _:
            pod[what] = [{"name": "first", "image": "evil:1"}]


CHANGES = ("image", "args", "command", "env", "volumeMounts", "volumes", "initContainers")


@pytest.mark.parametrize("what", CHANGES)
def test_F_a_job_of_our_name_that_does_other_work_is_not_adopted_but_made_anew(what: str):
    world = died_before_it_was_recorded()
    theirs = world.job("prepare")
    change(theirs, what)
    world.cluster.put(theirs)
    world.end("prepare", code=2, result={"error": {"kind": "BadData", "message": "no"}})
    with pytest.raises(Conflict, match="is not the one of this attempt: its"):
        world.reconcile()
    world.persist()
    assert world.job("prepare")["metadata"]["uid"] != theirs["metadata"]["uid"]
    assert (world.phase, world.record("prepare")["attempt"]) == ("Preparing", 1)


@pytest.mark.parametrize("step", ["prepare", "learn"])
def test_F_a_job_that_was_made_before_a_death_is_adopted_and_its_uid_recorded(step: str):
    world = died_before_it_was_recorded(step)
    made = world.job(step)["metadata"]["uid"]
    world.settle()
    assert (len(world.jobs(step)), world.record(step)["job"]) == (1, made)


def test_the_uid_of_a_job_is_in_the_status_that_tells_of_its_attempt():
    world = RunWorld()
    world.reconcile()
    assert world.record("prepare")["job"] == world.job("prepare")["metadata"]["uid"]
    assert world.cluster.written("update_status", kinds.TRAINING_RUN) == ["demo"]


def test_an_attempt_of_a_release_that_recorded_no_uid_goes_on():
    """Its Job has the name that the release gave it, and is known by it."""
    world = RunWorld()
    world.settle()
    job = world.job("prepare")
    world.cluster.remove(kinds.JOB, "default", job["metadata"]["name"])
    older = {**job["metadata"], "name": "demo-prepare-1", "uid": "older", "resourceVersion": "0"}
    world.cluster.put({**job, "metadata": older})
    status = world.run["status"]
    del status["stages"][0]["job"]
    world.cluster.set_status(kinds.TRAINING_RUN, "default", "demo", status)
    world.start_operator()
    world.settle()
    assert ([job["metadata"]["name"] for job in world.jobs()], world.record("prepare")["job"]) == (
        ["demo-prepare-1"],
        "older",
    )
    world.end("prepare")
    world.settle()
    assert (world.record("prepare")["state"], world.record("prepare")["attempt"]) == ("Succeeded", 1)
    assert world.job("learn")["metadata"]["name"] == "slipway-run-demo-learn-1"


def test_what_an_api_server_fills_in_makes_no_other_work():
    there = a_job(a_plan(), "evaluate")
    pod = there["spec"]["template"]["spec"]
    pod |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "nodeSelector": {"by": "a-queue"}}
    (container,) = pod["containers"]
    container["env"][-1]["valueFrom"]["fieldRef"]["apiVersion"] = "v1"
    container["resources"] = {}
    pod["volumes"][1]["configMap"]["defaultMode"] = 420
    assert same_work.difference(there, a_job(a_plan(), "evaluate")) is None


def test_what_an_evaluation_was_told_of_its_inputs_may_be_in_no_record_yet():
    plan = a_plan()
    told = a_job(plan, "evaluate")
    told["spec"]["template"]["spec"]["containers"][0]["env"] += [
        {"name": name, "value": digest} for name, digest in Inputs(DIGEST, DIGEST).variables().items()
    ]
    assert same_work.difference(told, a_job(plan, "evaluate")) is None


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_of_the_work_is_named(what: str):
    there = a_job(a_plan())
    change(there, what)
    named = {"initContainers": "number of initContainers"}.get(what, what)
    assert same_work.difference(there, a_job(a_plan())) == named


def as_earlier_releases_made_it(job: Manifest) -> None:
    """They gave a step the whole claim, and had nothing run before it."""
    pod = job["spec"]["template"]["spec"]
    pod.pop("initContainers", None)
    mounts = pod["containers"][0]["volumeMounts"]
    mounts[0] = {"name": "workspace", "mountPath": "/workspace"}


@pytest.mark.parametrize("step", ["prepare", "learn"])
def test_F_a_job_that_an_earlier_release_made_and_did_not_record_goes_on_after_the_upgrade(step: str):
    world = died_before_it_was_recorded(step)
    job = world.job(step)
    as_earlier_releases_made_it(job)
    world.cluster.put(job)
    world.settle()
    assert (len(world.jobs(step)), world.record(step)["job"]) == (1, job["metadata"]["uid"])


@pytest.mark.parametrize("what", CHANGES)
def test_F_such_a_job_that_does_other_work_is_none_of_ours(what: str):
    there = a_job(a_plan(), "prepare")
    as_earlier_releases_made_it(there)
    assert same_work.difference(there, a_job(a_plan(), "prepare")) is None
    change(there, what)
    assert same_work.difference(there, a_job(a_plan(), "prepare")) is not None


def test_the_words_of_what_runs_before_a_step_are_part_of_its_work():
    there = a_job(a_plan(), "prepare")
    there["spec"]["template"]["spec"]["initContainers"][0]["command"][2] = "rm -rf /workspace/*"
    assert same_work.difference(there, a_job(a_plan(), "prepare")) == "command"
