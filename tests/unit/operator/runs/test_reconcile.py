import asyncio
from datetime import timedelta

import pytest
from tests.unit.operator.run_world import DIGEST, RunWorld

from slipway_core.protocol.trust import Flaw, Standing
from slipway_core.resources.status import Progress
from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import Conflict, Forbidden, Invalid, QuotaExceeded

HELD_OUT = "sha256:" + "d" * 64


def test_a_run_goes_from_its_plan_to_a_live_endpoint():
    world = RunWorld()
    world.train()
    world.evaluate()
    assert world.phase == "RollingOut"
    endpoint = world.cluster.one(kinds.MODEL_ENDPOINT, "chat")
    folder = names.run_folder("demo", world.uid)
    assert endpoint["spec"]["model"] == {
        "uri": f"pvc://slipway-workspace/{folder}/artifact", "digest": DIGEST, "run": "demo"
    }  # fmt: skip
    assert "ownerReferences" not in endpoint["metadata"]
    world.serve()
    assert world.phase == "Serving"
    assert [job["metadata"]["labels"][names.STEP] for job in world.jobs()] == ["prepare", "learn", "export", "evaluate"]


def test_F_a_pass_that_changes_nothing_writes_nothing_and_one_that_does_writes_one_status():
    world = RunWorld()
    world.train()
    world.evaluate()
    world.serve()
    before = len(world.cluster.writes)
    assert world.reconcile() is None
    assert len(world.cluster.writes) == before
    statuses = world.cluster.written("update_status", kinds.TRAINING_RUN)
    # prepare, learn, export, evaluate start; judged and promoted; live.
    assert len(statuses) == 6


def test_F_fewer_than_thirty_writes_in_the_life_of_a_run():
    world = RunWorld()
    world.train()
    world.evaluate()
    world.serve()
    # Not here: the endpoint's own Deployment, Service, disruption budget, network policy and two statuses.
    assert len(world.cluster.writes) <= 18, world.cluster.writes


def test_F_what_prepare_warns_of_is_in_the_status_and_one_event_and_costs_no_write_more():
    found = ["evaluation.gates[0] (perplexity) can never pass: 夜", "the judge does not answer"]
    writes = []
    for told in ({}, {"warnings": found}):
        world = RunWorld()
        world.settle()
        world.end("prepare", result=told)
        world.settle()
        world.train_on()
        writes.append(len(world.cluster.writes))
    assert world.record("prepare")["progress"]["warnings"] == found
    assert world.run["status"]["warnings"] == 2
    events = [write.name for write in world.cluster.writes if write.kind == "Event"]
    assert writes[1] - writes[0] == 1, f"the Event alone: {events}"


def test_F_a_step_that_takes_its_time_and_tells_no_progress_takes_no_write():
    world = RunWorld()
    world.settle()
    before = len(world.cluster.writes)
    world.pod_of(world.job("prepare"))
    world.now += timedelta(minutes=1)
    world.reconcile()
    assert len(world.cluster.writes) == before
    progressing = world.condition("Progressing")
    assert progressing is not None
    assert progressing["message"] == "prepare is under way (attempt 1)"


def test_A_a_model_that_does_not_pass_is_neither_promoted_nor_given_a_verdict():
    world = RunWorld()
    world.train()
    world.evaluate(perplexity=99)
    assert world.phase == "Rejected"
    assert world.cluster.all(kinds.MODEL_ENDPOINT) == []
    (judgement,) = world.judgements()
    assert judgement["data"]["verdict"] == "Fail"


def test_A_garbage_in_the_termination_message_is_inconclusive_with_the_reason():
    world = RunWorld()
    world.train()
    world.end("evaluate", result="Segmentation fault")
    world.settle()
    assert world.phase == "Held"
    assert "no valid result" in world.run["status"]["evaluation"]["reason"]
    world.annotate(reevaluate="1")
    world.settle()
    world.evaluate()
    assert world.phase == "RollingOut"


def test_A_a_verdict_is_taken_back_when_the_model_is_judged_again_and_does_not_pass():
    world = RunWorld()
    world.train()
    world.evaluate()
    assert standing(world).passed
    status = world.run["status"]
    status["evaluation"] |= {"verdict": "Inconclusive", "number": 2}
    status["stages"][-1] |= {"attempt": 2, "finishedAt": "2026-01-01T12:30:00Z"}
    world.cluster.remove(kinds.MODEL_ENDPOINT, "default", "chat")
    world.cluster.set_status(kinds.TRAINING_RUN, "default", "demo", status)
    world.reconcile()
    assert [one["data"]["verdict"] for one in world.judgements()] == ["Pass", "Inconclusive"]
    assert (standing(world).passed, standing(world).flaw) == (False, Flaw.NOT_PASSED)


def standing(world: RunWorld) -> Standing:
    """How the model stands for a new process of the operator."""
    return asyncio.run(world.standings().of("default", DIGEST)).standing


def test_E_an_edit_before_the_run_is_planned_makes_the_plan_anew_and_one_after_it_changes_nothing():
    world = RunWorld()
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("edited meanwhile"))
    with pytest.raises(Conflict):
        world.reconcile()
    world.edit(retries=7)
    world.start_operator()
    world.persist()
    (plan,) = [cm for cm in world.cluster.all(kinds.CONFIG_MAP) if cm["metadata"]["labels"][names.ROLE] == "plan"]
    assert '"retries": 7' in plan["data"]["plan.json"]
    digest = world.run["status"]["planDigest"]
    world.settings = world.settings.model_copy(
        update={"training": world.settings.training.model_copy(update={"accelerator": "nvidia.com/gpu"})}
    )
    world.start_operator()
    world.end("prepare")
    world.settle()
    assert world.run["status"]["planDigest"] == digest
    limits = world.job("learn")["spec"]["template"]["spec"]["containers"][0]["resources"].get("limits", {})
    assert "nvidia.com/gpu" not in limits, "a default of the chart changed under a run"


def test_D_an_interruption_goes_on_with_the_next_attempt_and_a_failure_after_its_pause():
    world = RunWorld()
    world.settle()
    world.end("prepare", code=75, result={"error": {"kind": "Interrupted", "message": "stopped"}})
    world.settle()
    assert world.record("prepare")["attempt"] == 2
    world.end("prepare", code=1, result={"error": {"kind": "Internal", "message": "boom"}})
    world.settle()
    assert world.record("prepare")["state"] == "Waiting"
    assert world.reconcile() is not None
    world.now += timedelta(seconds=11)
    world.settle()
    assert world.record("prepare")["attempt"] == 3
    assert len(world.jobs("prepare")) == 3


def test_F_a_job_that_exists_is_adopted_and_that_of_another_run_is_waited_for():
    world = RunWorld()
    world.cluster.fail_next("update_status", kinds.TRAINING_RUN, Conflict("died here"))
    with pytest.raises(Conflict):
        world.reconcile()
    world.start_operator()
    world.settle()
    assert len(world.jobs("prepare")) == 1

    other = RunWorld()
    foreign = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": names.job("demo", "prepare", 1), "labels": {names.RUN_UID: "of-another"}},
        "spec": {},
    }
    other.cluster.put(foreign)
    assert other.reconcile() is not None
    assert other.condition("Refused")["reason"] == "NameTaken"
    assert f"Job {names.job('demo', 'prepare', 1)}" in other.condition("Refused")["message"]
    other.cluster.remove(kinds.JOB, "default", names.job("demo", "prepare", 1))
    other.settle()
    assert other.phase == "Preparing"


def test_a_quota_that_has_no_room_is_a_condition_and_the_run_goes_on_by_itself():
    world = RunWorld()
    world.cluster.fail_next("create", kinds.JOB, QuotaExceeded("exceeded quota: jobs"))
    wait = world.reconcile()
    assert world.condition("Refused")["reason"] == "QuotaExceeded"
    assert wait is not None
    world.settle()
    assert world.phase == "Preparing"
    assert world.condition("Refused") is None


def test_a_model_that_nobody_has_judged_yet_is_recorded_without_another_pass_at_once():
    world = RunWorld()
    world.settle()
    for step in ("prepare", "learn"):
        world.end(step)
        world.settle()
    uri = f"file:///workspace/{names.run_folder(world.name, world.uid)}/artifact"
    world.end("export", result={"artifact": {"uri": uri, "digest": DIGEST}})
    assert world.reconcile() == timedelta(seconds=10), "the evaluation is looked at"
    assert world.run["status"]["artifact"]["digest"] == DIGEST
    assert len(world.jobs("evaluate")) == 1
    writes = len(world.cluster.writes)
    world.reconcile()
    assert len(world.cluster.writes) == writes


@pytest.mark.parametrize("refused", [Forbidden("denied by the webhook"), QuotaExceeded("exceeded quota: endpoints")])
def test_G_a_verdict_is_recorded_while_the_endpoint_is_refused_and_outlives_the_pod(refused):
    world = RunWorld()
    world.train()
    for _ in range(2):
        world.cluster.fail_next("create", kinds.MODEL_ENDPOINT, refused)
    world.end_evaluation()
    # A judgement is in the status before an endpoint hears of it.
    assert world.reconcile() == timedelta(0)
    assert world.run["status"]["evaluation"]["verdict"] == "Pass"
    assert world.cluster.all(kinds.MODEL_ENDPOINT) == []
    world.reconcile()
    assert (world.phase, world.record("evaluate")["state"]) == ("RollingOut", "Succeeded")
    assert world.condition("Refused")["message"] == str(refused)
    for type_ in ("Live", "Progressing"):
        assert world.condition(type_)["message"].startswith("endpoint chat cannot be told to serve the model: ")
    assert world.cluster.told() == ["Judged", type(refused).__name__]
    writes, again = len(world.cluster.written("update_status", kinds.TRAINING_RUN)), world.reconcile()
    assert timedelta(seconds=30) <= again <= timedelta(seconds=45)
    assert len(world.cluster.written("update_status", kinds.TRAINING_RUN)) == writes
    world.loses("evaluate")
    world.settle()
    assert len(world.jobs("evaluate")) == 0, "judged once"
    assert world.condition("Refused") is None
    world.serve()
    assert world.phase == "Serving"


def test_G_a_step_that_is_done_is_recorded_while_the_job_of_the_next_one_is_refused():
    world = RunWorld()
    world.settle()
    world.end("prepare")
    for _ in range(2):
        world.cluster.fail_next("create", kinds.JOB, QuotaExceeded("exceeded quota: jobs"))
    world.reconcile()
    assert world.record("prepare")["state"] == "Succeeded"
    assert world.record("learn") == {
        "name": "learn", "state": "Pending", "attempt": 0, "failures": 0, "stalls": 0, "gaveWay": 0, "resumedStep": 0,
        "metrics": {},
    }  # fmt: skip
    assert world.condition("Progressing")["message"] == "learn cannot start: exceeded quota: jobs"
    assert world.phase == "Pending", "it does not train"
    before = len(world.cluster.written("update_status", kinds.TRAINING_RUN))
    world.now += timedelta(seconds=15)
    world.reconcile()
    assert len(world.cluster.written("update_status", kinds.TRAINING_RUN)) == before
    world.loses("prepare")
    world.settle()
    assert [job["metadata"]["name"] for job in world.jobs()] == ["slipway-run-demo-learn-1"]
    assert (world.phase, world.condition("Refused")) == ("Training", None)


def test_G_a_run_whose_status_is_not_taken_says_so_once_and_goes_on():
    world = RunWorld()
    world.settle()
    world.end("prepare")
    too_long = Invalid("status.stages[0].message: Too long: may not be more than 4096 bytes")
    for _ in range(3):
        world.cluster.fail_next("update_status", kinds.TRAINING_RUN, too_long)
        assert world.reconcile() >= timedelta(seconds=15)
        world.now += timedelta(seconds=15)
    condition = world.condition("Refused")
    assert condition["reason"] == "StatusInvalid"
    assert condition["message"].endswith(str(too_long))
    assert (world.phase, world.record("prepare")["state"]) == ("Preparing", "Running"), "as it was"
    statuses = world.cluster.written("update_status", kinds.TRAINING_RUN)
    assert len(statuses) == 1 + 3 + 1, "planned, tried three times, told once"
    assert world.job("learn"), "what could be done is"
    world.settle()
    assert (world.phase, world.record("prepare")["state"], world.condition("Refused")) == (
        "Training", "Succeeded", None
    )  # fmt: skip


def test_D_an_interruption_counts_once_while_its_successor_is_refused():
    world = RunWorld()
    world.settle()
    world.end("prepare", code=75, result={"error": {"kind": "Interrupted", "message": "stopped"}})
    for _ in range(5):
        world.cluster.fail_next("create", kinds.JOB, Forbidden("denied"))
        world.reconcile()
    record = world.record("prepare")
    assert (record["state"], record["attempt"], record["stalls"], record["failures"]) == ("Waiting", 1, 1, 0)
    world.settle()
    assert world.record("prepare")["attempt"] == 2


def test_what_is_refused_is_tried_ever_later():
    world = RunWorld()
    waits = []
    for _ in range(3):
        world.cluster.fail_next("create", kinds.JOB, QuotaExceeded("exceeded quota: jobs"))
        waits.append(world.reconcile())
    first, second, third = (wait.total_seconds() for wait in waits)
    assert 15 <= first <= 22.5
    assert 30 <= second <= 45
    assert third >= 60
    world.settle()
    assert world.cluster.world.waiting.first("default") is None


def test_E_a_spec_whose_first_job_is_refused_may_be_mended():
    world = RunWorld()
    world.cluster.fail_next("create", kinds.JOB, Invalid("spec.template: Invalid value"))
    world.reconcile()
    assert world.condition("Refused")["reason"] == "Invalid"
    assert "planDigest" not in world.run["status"], "the spec is immutable from then on"


def test_suspend_deletes_the_attempt_and_waits_for_its_pods():
    world = RunWorld()
    world.settle()
    pod = world.pod_of(world.job("prepare"))
    world.settle()
    world.edit(suspend=True)
    world.settle()
    assert world.phase == "Suspended"
    assert world.jobs() == []
    world.edit(suspend=False)
    world.settle()
    assert world.jobs() == [], "a pod of the old attempt still writes"
    world.cluster.remove(kinds.POD, "default", pod["metadata"]["name"])
    world.settle()
    assert world.job("prepare")["metadata"]["labels"][names.ATTEMPT] == "2"


def test_D_an_attempt_that_a_queue_took_back_is_deleted_before_the_next_one_is_made():
    world = a_run_taken_back_by_its_queue()
    world.settle()
    assert [job["metadata"]["labels"][names.ATTEMPT] for job in world.jobs("prepare")] == ["2"]
    assert world.record("prepare")["failures"] == 0
    assert world.phase == "Queued"


def test_D_an_attempt_that_its_queue_admits_again_at_that_moment_gets_no_successor_beside_it():
    world = a_run_taken_back_by_its_queue()
    job = world.job("prepare")
    # No watch has told of it yet.
    key = ("Job", "default", job["metadata"]["name"])
    admitted = {**job, "metadata": {**job["metadata"], "resourceVersion": "999"}, "spec": {"suspend": False}}
    world.cluster.objects[key] = admitted
    with pytest.raises(Conflict):
        world.reconcile()
    assert world.jobs("prepare") == [admitted]


def test_a_queue_is_asked_why_less_often_the_longer_it_lets_a_run_wait():
    world = RunWorld(spec={"compute": {"queue": "team"}})
    assert world.reconcile() == timedelta(seconds=10)
    assert world.reconcile() == timedelta(seconds=10)
    world.now += timedelta(minutes=2)
    assert world.reconcile() == timedelta(seconds=30)
    world.now += timedelta(hours=9)
    assert world.reconcile() == timedelta(minutes=2)


def a_run_taken_back_by_its_queue() -> RunWorld:
    """Its first attempt had a process, and is suspended."""
    world = RunWorld(spec={"compute": {"queue": "team"}})
    world.settle()
    job = world.job("prepare")
    world.cluster.put({**job, "spec": {**job["spec"], "suspend": False}})
    pod = world.pod_of(job)
    world.settle()
    assert world.phase == "Preparing"
    world.cluster.put({**job, "spec": {**job["spec"], "suspend": True}})
    world.cluster.remove(kinds.POD, "default", pod["metadata"]["name"])
    return world


def test_progress_is_written_at_most_every_ten_seconds():
    world = RunWorld()
    world.settle()
    world.end("prepare")
    world.settle()
    world.pod_of(world.job("learn"))
    for second in range(40):
        world.now += timedelta(seconds=1)
        world.pods.said = Progress(step=second, total=100)
        world.reconcile()
    assert 3 <= len(world.cluster.written("update_status", kinds.TRAINING_RUN)) - 2 <= 5
    assert world.record("learn")["progress"]["step"] >= 30


def test_a_base_model_of_another_run_is_waited_for_and_pinned():
    world = RunWorld(spec={"model": {"from": "run://base"}})
    world.settle()
    assert world.condition("Planned")["reason"] == "RunNotFound"
    base = RunWorld(name="base", cluster=world.cluster)
    world.settle()
    assert world.condition("Planned")["reason"] == "RunHasNoModel"
    base.train()
    world.settle()
    assert world.phase == "Preparing"
    (plan,) = [cm for cm in world.cluster.all(kinds.CONFIG_MAP) if cm["metadata"]["name"].startswith("demo-plan")]
    assert f"pvc://slipway-workspace/{names.run_folder('base', base.uid)}/artifact" in plan["data"]["plan.json"]


def test_a_keys_file_is_refused_before_anything_is_trained():
    template = {"access": {"keysFile": "keys.txt"}}
    world = RunWorld(spec={"serving": {"endpoint": "chat", "template": template}})
    world.settle()
    assert world.condition("Planned")["reason"] == "KeysFileOnCluster"
    assert world.jobs() == []


def warnings(world: RunWorld) -> list[tuple[str, str]]:
    return [(event["reason"], event["message"]) for event in world.cluster.all(kinds.EVENT)]


def test_F_what_a_run_waits_for_is_one_event_however_long_it_waits():
    world = RunWorld()
    world.settle()
    for nodes in (1, 2, 3):
        message = f"0/{nodes} nodes are available: {nodes} Insufficient nvidia.com/gpu."
        unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        world.pod_of(world.job("prepare"), phase="Pending", conditions=[unplaced])
        world.settle()
        world.now += timedelta(minutes=1)
    [(reason, message)] = warnings(world)
    assert (world.phase, reason) == ("Pending", "NoAccelerator")
    assert "0/1 nodes are available" in message


def test_F_what_keeps_a_run_from_being_planned_or_its_job_from_being_made_is_an_event_too():
    waits = RunWorld(spec={"model": {"from": "run://base"}})
    waits.settle()
    waits.now += timedelta(minutes=1)
    waits.settle()
    assert [reason for reason, _ in warnings(waits)] == ["RunNotFound"]
    world = RunWorld()
    for _ in range(2):
        world.cluster.fail_next("create", kinds.JOB, QuotaExceeded("exceeded quota: jobs"))
        world.settle()
        world.now += timedelta(minutes=1)
    assert [reason for reason, _ in warnings(world)] == ["QuotaExceeded"]


def test_the_later_of_two_runs_has_the_endpoint():
    older = RunWorld(name="older")
    older.now += timedelta(hours=1)
    newer = RunWorld(name="newer", cluster=older.cluster, now=older.now)
    for world in (older, newer):
        world.train()
    newer.evaluate()
    older.evaluate()
    for world in (older, newer, older):
        world.settle()
    assert older.phase == "Completed"
    assert older.condition("Live")["reason"] == "Superseded"
    assert older.cluster.one(kinds.MODEL_ENDPOINT, "chat")["spec"]["model"]["run"] == "newer"


def test_a_deleted_run_is_cleaned_up_but_for_the_model_that_an_endpoint_names():
    world = RunWorld()
    world.train()
    world.evaluate()
    world.serve()
    world.cluster.remove(kinds.TRAINING_RUN, "default", "demo")
    world.reconcile()
    (job,) = world.jobs()
    assert "--keep-artifact" in job["spec"]["template"]["spec"]["containers"][0]["args"]
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    world.cluster.set_status(kinds.JOB, "default", job["metadata"]["name"], done)
    world.reconcile()
    assert world.cluster.one(kinds.MODEL_ENDPOINT, "chat"), "the endpoint stays live"
    assert len(world.cluster.all(kinds.CONFIG_MAP)) == 2
    world.cluster.remove(kinds.MODEL_ENDPOINT, "default", "chat")
    world.reconcile()
    last = [
        job for job in world.jobs() if "--keep-artifact" not in job["spec"]["template"]["spec"]["containers"][0]["args"]
    ]
    world.cluster.set_status(kinds.JOB, "default", last[0]["metadata"]["name"], done)
    world.reconcile()
    assert world.cluster.all(kinds.CONFIG_MAP) == []


def test_a_finished_run_goes_after_its_time():
    world = RunWorld(spec={"retention": {"ttlAfterFinished": "1h"}})
    world.train()
    world.evaluate(perplexity=99)
    assert world.reconcile() == timedelta(hours=1)
    world.now += timedelta(hours=1)
    world.reconcile()
    assert world.cluster.all(kinds.TRAINING_RUN) == []


def test_a_run_that_is_over_by_one_pass_goes_after_its_time_too():
    world = RunWorld(spec={"retention": {"ttlAfterFinished": "1h"}})
    world.settle()
    world.end("prepare", code=2, result={"error": {"kind": "BadData", "message": "no rows"}})
    assert world.reconcile() == timedelta(hours=1), "nothing wakes it before"
    assert world.phase == "Failed"
    world.now += timedelta(hours=1)
    world.reconcile()
    assert world.cluster.all(kinds.TRAINING_RUN) == []


def test_an_object_that_cannot_be_read_is_told_and_left_alone():
    world = RunWorld()
    world.cluster.put({**world.run, "spec": {"tomorrow": True}})
    assert world.reconcile() is None
    assert world.cluster.told() == ["Unreadable"]


def test_A_a_verdict_that_somebody_wrote_first_is_replaced_by_that_of_the_run():
    world = RunWorld()
    world.train()
    name = names.judgement(DIGEST, world.uid, 1)
    theirs = {"metadata": {"name": name}, "data": {"digest": DIGEST, "verdict": "Fail"}}
    world.cluster.put({"apiVersion": "v1", "kind": "ConfigMap", **theirs})
    world.end_evaluation()
    world.persist()
    (verdict,) = [one for one in world.cluster.all(kinds.CONFIG_MAP) if "verdict" in one["data"]]
    assert (verdict["data"]["verdict"], verdict["data"]["runUid"]) == ("Pass", world.uid)
    assert world.phase == "RollingOut"


def test_A_an_evaluation_is_told_the_digests_of_its_inputs_by_the_record():
    world = RunWorld()
    world.settle()
    world.end("prepare", result={"heldOutDigest": HELD_OUT})
    world.settle()
    world.train_on()
    (container,) = world.job("evaluate")["spec"]["template"]["spec"]["containers"]
    told = {one["name"]: one.get("value") for one in container["env"]}
    assert (told["SLIPWAY_HELD_OUT_DIGEST"], told["SLIPWAY_ARTIFACT_DIGEST"]) == (HELD_OUT, DIGEST)


@pytest.mark.parametrize(
    ("data", "phase"), [(None, "Held"), ("sha256:" + "e" * 64, "Held"), ("held-out", "RollingOut")]
)
def test_A_a_judgement_upon_other_data_than_prepare_held_out_is_none(data: str | None, phase: str):
    world = RunWorld()
    world.settle()
    world.end("prepare", result={"heldOutDigest": HELD_OUT})
    world.settle()
    world.train_on()
    evaluation = {"number": 1, "artifactDigest": DIGEST, "scoredTokens": 1000}
    evaluation |= {"dataDigest": HELD_OUT if data == "held-out" else data} if data else {}
    world.end("evaluate", result={"metrics": {"perplexity": 1.0}, "evaluation": evaluation})
    world.settle()
    assert world.phase == phase
    if phase == "Held":
        assert "not upon the held-out data of prepare" in world.condition("Progressing")["message"]


# --------------------------------------------------------------------------- what another version of the operator wrote


def test_fields_of_a_status_that_this_operator_does_not_know_are_kept():
    world = RunWorld()
    world.train()
    status = world.run["status"]
    stages = [{**stage, "gpuHours": 1.5} for stage in status["stages"]]
    status |= {"cost": {"gpuHours": 3.0}, "stages": stages, "artifact": {**status["artifact"], "signature": "s"}}
    world.cluster.set_status(kinds.TRAINING_RUN, "default", "demo", status)
    world.evaluate()
    assert world.phase == "RollingOut"
    after = world.run["status"]
    assert (after["cost"], after["artifact"]["signature"]) == ({"gpuHours": 3.0}, "s")
    assert {stage["gpuHours"] for stage in after["stages"]} == {1.5}


def test_a_run_whose_endpoint_has_a_newer_status_goes_on_serving():
    world = RunWorld()
    world.train()
    world.evaluate()
    world.serve()
    status = world.cluster.one(kinds.MODEL_ENDPOINT, "chat")["status"]
    newer = {**status, "mood": "fine", "live": {**status["live"], "canary": 10}}
    world.cluster.set_status(kinds.MODEL_ENDPOINT, "default", "chat", newer)
    world.settle()
    assert world.phase == "Serving"


@pytest.mark.parametrize("part", ["spec", "status"])
def test_a_run_whose_endpoint_cannot_be_read_decides_nothing_about_it(part):
    world = RunWorld()
    world.train()
    world.evaluate()
    world.serve()
    before = world.cluster.one(kinds.MODEL_ENDPOINT, "chat")
    unknown = {"spec": {"canary": {"weight": 10}}, "status": {"phase": "Canary"}}[part]
    world.cluster.put({**before, part: {**before[part], **unknown}})
    world.settle()
    assert world.phase == "Serving"
    live = world.condition("Live")
    assert live is not None
    assert (live["status"], live["reason"]) == ("Unknown", "EndpointUnreadable")
    assert "ModelEndpoint chat: " in live["message"]
    world.cluster.put(before)
    world.serve()
    live = world.condition("Live")
    assert live is not None
    assert (world.phase, live["status"]) == ("Serving", "True")


def test_A_a_model_is_not_judged_without_a_live_version_that_cannot_be_read():
    gates = [{"metric": "perplexity", "max": 20}, {"metric": "perplexity", "maxRegression": 0.1}]
    world = RunWorld(spec={"evaluation": {"data": [{"uri": "package://tang-held-out"}], "gates": gates}})
    endpoint = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": "chat"}}
    world.cluster.put({**endpoint, "spec": {"canary": {"weight": 10}}})
    world.train()
    assert world.jobs("evaluate") == []
    progressing = world.condition("Progressing")
    assert progressing is not None
    assert progressing["reason"] == "EndpointUnreadable"
    assert world.phase == "Evaluating"
    world.cluster.put({**world.cluster.one(kinds.MODEL_ENDPOINT, "chat"), "spec": {}})
    world.settle()
    assert len(world.jobs("evaluate")) == 1


def test_a_run_that_cannot_be_read_says_so_once_and_stays_as_it_is():
    world = RunWorld()
    world.train()
    before = world.run
    world.edit(curriculum={"order": "easy first"})
    world.end_evaluation()
    for _ in range(3):
        assert world.reconcile() is None
    unreadable = world.condition("Unreadable")
    assert unreadable is not None
    assert unreadable["status"] == "True"
    assert unreadable["message"] == (
        "TrainingRun demo: spec.curriculum is not known to this operator: a newer version wrote it; "
        "upgrade the operator or take the field out. Nothing is decided about it until then"
    )
    others = [c for c in world.run["status"]["conditions"] if c["type"] != "Unreadable"]
    assert {**world.run["status"], "conditions": others} == before["status"]
    assert [e["reason"] for e in world.cluster.all(kinds.EVENT)].count("Unreadable") == 1
    world.cluster.put({**world.run, "spec": before["spec"]})
    world.settle()
    assert (world.phase, world.condition("Unreadable")) == ("RollingOut", None)


def test_a_run_whose_status_cannot_be_read_keeps_it_as_it_is():
    world = RunWorld()
    world.train()
    status = {**world.run["status"], "phase": "Distilling"}
    world.cluster.set_status(kinds.TRAINING_RUN, "default", "demo", status)
    world.reconcile()
    after = world.run["status"]
    assert (after["phase"], after["stages"]) == ("Distilling", status["stages"])
    assert "status.phase" in next(c for c in after["conditions"] if c["type"] == "Unreadable")["message"]


def test_A_a_verdict_that_somebody_wrote_first_is_replaced_also_for_a_run_without_serving():
    world = RunWorld(spec={"serving": None})
    world.train()
    name = names.judgement(DIGEST, world.uid, 1)
    theirs = {"metadata": {"name": name}, "data": {"digest": DIGEST, "verdict": "Fail"}}
    world.cluster.put({"apiVersion": "v1", "kind": "ConfigMap", **theirs})
    world.end_evaluation()
    world.persist()
    (verdict,) = [one for one in world.cluster.all(kinds.CONFIG_MAP) if "verdict" in one["data"]]
    assert (verdict["data"]["verdict"], world.phase) == ("Pass", "Completed")


def test_an_endpoint_that_takes_its_time_to_be_deleted_is_not_made_again_by_its_run():
    """Orphaned, or deleted in the foreground, it stays for a while with a generation that no status is about."""
    world = RunWorld()
    world.train()
    world.evaluate()
    world.serve()
    endpoint = world.cluster.one(kinds.MODEL_ENDPOINT, "chat")
    generation = endpoint["metadata"]["generation"] + 1
    going = {**endpoint["metadata"], "deletionTimestamp": "2026-01-01T12:00:00Z", "generation": generation}
    key = ("ModelEndpoint", "default", "chat")
    world.cluster.put({**endpoint, "metadata": going})
    world.cluster.objects[key]["metadata"]["generation"] = generation
    world.cluster.put({**world.cluster.objects[key], "metadata": {**world.cluster.objects[key]["metadata"]}})
    world.settle()
    assert world.phase == "Serving"
    world.cluster.remove(kinds.MODEL_ENDPOINT, "default", "chat")
    world.settle()
    assert (world.phase, world.cluster.all(kinds.MODEL_ENDPOINT)) == ("Completed", [])
