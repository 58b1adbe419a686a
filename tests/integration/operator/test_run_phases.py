"""Every phase of a run, through the operator's own process on a real API server."""

import pytest
from tests.integration.api_client import eventually
from tests.integration.operator.runs_on_cluster import SPEC, STEPS, verdicts

from slipway_operator import names
from slipway_operator.kube.kinds import CONFIG_MAP, JOB


def test_a_run_goes_from_its_data_to_a_live_endpoint(runs, pods_say):
    run = runs.apply("well")
    status = run.reaches("Serving")
    assert [(one["name"], one["state"], one["attempt"]) for one in status["stages"]] == [
        (step, "Succeeded", 1) for step in STEPS
    ]
    assert status["evaluation"]["verdict"] == "Pass"
    folder = names.run_folder(run.name, run.uid)
    assert status["artifact"]["uri"] == f"pvc://{names.WORKSPACE_CLAIM}/{folder}/artifact"
    endpoint = runs.endpoint()
    assert endpoint.live["digest"] == status["artifact"]["digest"]
    assert endpoint.live["run"] == run.name
    assert endpoint.routed == "1"
    assert [(pod.startswith("slipway-serve-chat-v1-"), path) for _, pod, path in pods_say.asked if path == "promptz"][
        -1:
    ] == [(True, "promptz")]
    assert [one["data"]["digest"] for one in verdicts(run.api, run.namespace)] == [status["artifact"]["digest"]]
    plan = run.api.get(CONFIG_MAP, run.namespace, names.plan(run.name, run.uid))
    assert plan["immutable"]


def test_a_model_that_was_held_goes_live_by_a_run_without_stages(runs):
    held = runs.apply("hold-evaluate-1-few")
    pod = held.pod("evaluate")
    pod.ends(0, pod.evaluation(perplexity=9, scored_tokens=99))
    held.reaches("Held")
    run = runs.apply("own", model={"from": f"run://{held.name}"}, stages=[])
    status = run.reaches("Serving")
    steps = ["prepare", "export", "evaluate"]
    assert [(one["name"], one["state"]) for one in status["stages"]] == [(step, "Succeeded") for step in steps]
    assert status["evaluation"]["verdict"] == "Pass"
    assert runs.endpoint().live["digest"] == status["artifact"]["digest"]
    told = {one["data"]["run"]: one["data"]["verdict"] for one in verdicts(run.api, run.namespace)}
    assert told == {held.name: "Inconclusive", "own": "Pass"}


def test_a_run_without_serving_is_completed(runs):
    run = runs.apply("no-serving", endpoint=None)
    run.reaches("Completed")
    assert runs.endpoint().manifest == {}


@pytest.mark.parametrize(
    ("step", "phase"),
    [("prepare", "Preparing"), ("learn", "Training"), ("export", "Exporting"), ("evaluate", "Evaluating")],
)
def test_a_run_is_in_the_phase_of_its_step(runs, step, phase):
    run = runs.apply(f"hold-{step}-1-x", endpoint=None)
    run.pod(step).runs()
    run.reaches(phase)


def test_progress_of_rank_0_reaches_status(runs, pods_say):
    run = runs.apply("hold-learn-1-x", endpoint=None)
    pods_say.say_progress(run.namespace, "slipway-run-hold-learn-1-x-learn-1", step=40, total=100, loss=2.5)
    pod = run.pod("learn").runs()
    run.reaches("Training")

    eventually(lambda: run.record("learn").get("progress", {}).get("step") == 40, "step 40 is in status")
    assert run.condition("Progressing")["message"] == "learn is under way (attempt 1, step 40 of 100)"
    pod.ends(0, pod.result(progress={"step": 100, "total": 100}))
    assert run.reaches("Completed")
    assert run.record("learn")["progress"]["step"] == 100


def test_a_warning_of_a_step_is_a_condition_and_an_event(runs, pods_say):
    run = runs.apply("hold-learn-1-x", endpoint=None)
    full = "step 4: the checkpoint could not be written: No space left on device"
    pods_say.say_progress(run.namespace, "slipway-run-hold-learn-1-x-learn-1", step=4, total=100, warning=full)
    run.pod("learn").runs()
    assert run.shows("StepWarning", "Warned") == f"learn: {full}"
    assert run.phase == "Training"
    eventually(lambda: f"learn: {full}" in [event["message"] for event in run.events()], "an Event says it")
    pods_say.say_progress(run.namespace, "slipway-run-hold-learn-1-x-learn-1", step=5, total=100)
    run.loses("StepWarning")


def test_a_model_that_fails_its_gate_is_rejected_and_serves_nothing(runs):
    run = runs.apply("hold-evaluate-1-bad")
    pod = run.pod("evaluate")
    pod.ends(0, pod.evaluation(perplexity=99))
    status = run.reaches("Rejected")
    assert status["evaluation"]["verdict"] == "Fail"
    assert "perplexity" in run.condition("Passed")["message"]
    # Its record comes with the pass after the one that wrote the phase.
    records = eventually(lambda: verdicts(run.api, run.namespace), "the verdict is recorded")
    assert [one["data"]["verdict"] for one in records] == ["Fail"]
    assert runs.endpoint().manifest == {}


@pytest.mark.parametrize(
    ("what", "message", "reason"),
    [
        ("nothing", lambda pod: "", "the process left no result"),
        ("garbage", lambda pod: "\x00not json", "the process left no valid result"),
        ("cut", lambda pod: pod.evaluation(perplexity=9).ljust(4096, "x"), "it was cut off"),
        ("another step", lambda pod: '{"step": "prepare", "attempt": 1}', "left the result of prepare, attempt 1"),
        ("no evaluation", lambda pod: pod.result(metrics={"perplexity": 9}), "the evaluation reported nothing"),
        ("no metric", lambda pod: pod.evaluation(bits_per_byte=1), "perplexity"),
        ("too few tokens", lambda pod: pod.evaluation(perplexity=9, scored_tokens=99), "99"),
        (
            "another model",
            lambda pod: pod.evaluation(perplexity=9, digest="sha256:" + "b" * 64),
            "not of the artifact",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_A_what_is_no_whole_result_is_inconclusive_and_held(runs, what, message, reason):
    run = runs.apply("hold-evaluate-1-x")
    pod = run.pod("evaluate")
    pod.ends(0, message(pod))
    status = run.reaches("Held")
    assert status["evaluation"]["verdict"] == "Inconclusive"
    assert reason in status["evaluation"]["reason"]
    assert runs.endpoint().manifest == {}


PUBLISHED = {
    "tracking": {"tensorboard": {}, "wandb": {"project": "p", "credentials": "wandb-key"}},
    "export": {"push": {"uri": "hf://org/name", "credentials": "hub-writer"}},
}


def test_a_pass_is_published_beside_the_rollout_with_its_secrets_alone(runs):
    run = runs.apply("hold-publish-1-x", **PUBLISHED)
    assert run.reaches("Serving")["evaluation"]["verdict"] == "Pass"
    given = {
        step: {
            one["valueFrom"]["secretKeyRef"]["name"]
            for one in run.jobs(step)[0]["spec"]["template"]["spec"]["containers"][0]["env"]
            if "secretKeyRef" in one.get("valueFrom", {})
        }
        for step in (*STEPS, "publish")
    }
    trackers = {"wandb-key"}
    assert given == {
        "prepare": set(), "learn": trackers, "export": set(), "evaluate": set(), "publish": {*trackers, "hub-writer"},
    }  # fmt: skip
    run.shows("Published", "Publishing", "False")
    pod = run.pod("publish").runs()
    pod.ends(0, pod.result(progress={"links": {"hub": "https://hub/org/name/commit/1"}}))
    said = run.shows("Published", "Published")
    assert said == "the verdict Pass is in wandb, tensorboard; the model is in hf://org/name"
    assert run.record("publish")["progress"]["links"] == {"hub": "https://hub/org/name/commit/1"}
    assert run.phase == "Serving"


def test_a_tracker_that_is_away_costs_a_condition_and_an_event(runs):
    run = runs.apply("hold-publish-1-x", endpoint=None, retries=0, **PUBLISHED)
    run.reaches("Completed")
    pod = run.pod("publish").runs()
    pod.ends(1, pod.result(error={"kind": "PublishFailed", "message": "tracking.wandb: no answer"}))
    assert "tracking.wandb: no answer" in run.shows("Published", "PublishFailed", "False")
    assert (run.phase, run.status["evaluation"]["verdict"]) == ("Completed", "Pass")
    eventually(lambda: any("tracking.wandb: no answer" in one["message"] for one in run.events()), "an Event says it")


def test_a_held_run_is_judged_again_when_it_is_asked_to(runs):
    run = runs.apply("hold-evaluate-1-x")
    run.pod("evaluate").ends(0, "")
    run.reaches("Held")
    run.annotate("reevaluate", "again")
    status = run.reaches("Serving")
    assert status["evaluation"]["number"] == 2


def test_an_inconclusive_run_is_rejected_where_it_says_so(runs):

    run = runs.apply("hold-evaluate-1-x", evaluation={**SPEC["evaluation"], "onInconclusive": "Reject"})
    run.pod("evaluate").ends(0, "")
    run.reaches("Rejected")


def test_a_suspended_run_stops_its_step_and_goes_on_afterwards(runs):
    run = runs.apply("hold-learn-1-x", endpoint=None)
    run.pod("learn").runs()
    run.reaches("Training")
    run.edit(suspend=True)
    run.reaches("Suspended")
    assert [job for job in run.jobs("learn") if "deletionTimestamp" not in job["metadata"]] == []
    run.edit(suspend=False)
    run.reaches("Completed")
    assert run.record("learn")["attempt"] == 2
    assert run.record("learn")["failures"] == 0


def test_a_run_that_begins_suspended_makes_nothing(runs):
    run = runs.apply("later", endpoint=None, suspend=True)
    run.reaches("Suspended")
    assert run.jobs() == []
    run.edit(suspend=False)
    run.reaches("Completed")


def test_a_run_of_a_queue_is_queued_until_its_job_is_admitted(runs):

    run = runs.apply("queued", endpoint=None, compute={"queue": "team-a"})
    run.reaches("Queued")
    assert "this cluster has no Kueue" in run.shows("Queued", "NoKueue")
    for step in STEPS:
        [job] = eventually(lambda step=step: run.jobs(step), f"the Job of {step}")
        run.api.merge(JOB, run.namespace, job["metadata"]["name"], {"spec": {"suspend": False}})
    run.reaches("Completed")
    assert not run.condition("Queued")


def test_bad_input_fails_at_once(runs):
    run = runs.apply("hold-prepare-1-x")
    pod = run.pod("prepare")
    pod.ends(2, pod.result(error={"kind": "Overlap", "message": "evaluation data stands in the training data"}))
    status = run.reaches("Failed")
    assert run.record("prepare")["attempt"] == 1
    assert "evaluation data stands in the training data" in run.condition("Progressing")["message"]
    assert "BadInput" in {event["reason"] for event in run.events()}
    assert status["stages"][0]["failures"] == 0


def test_a_failed_run_is_tried_again_when_it_is_asked_to(runs):
    run = runs.apply("hold-learn-1-x", endpoint=None, retries=0)
    run.pod("learn").ends(1)
    run.reaches("Failed")
    run.annotate("retry", "1")
    run.reaches("Completed")
    assert run.record("learn")["attempt"] == 2


def test_failures_are_counted_and_tried_again(runs):
    run = runs.apply("hold-learn-2-oom", endpoint=None, retries=2)
    run.pod("learn").runs().ends(137, reason="OOMKilled")
    run.pod("learn", 2).ends(1)
    run.reaches("Completed")
    record = run.record("learn")
    assert (record["attempt"], record["failures"]) == (3, 2)


def test_an_evaluation_that_always_crashes_is_inconclusive(runs):
    run = runs.apply("hold-evaluate-1-x", retries=0)
    run.pod("evaluate").ends(1)
    status = run.reaches("Held")
    assert "the evaluation failed" in status["evaluation"]["reason"]


@pytest.mark.parametrize(
    "end",
    [
        lambda pod: pod.ends(75),
        lambda pod: pod.ends(76),
        lambda pod: pod.ends(137, disrupted="EvictionByEvictionAPI"),
        lambda pod: pod.ends(143, of_pod="Evicted"),
        lambda pod: pod.evicted(),
        lambda pod: pod.goes(),
    ],
    ids=["stopped", "lost-peers", "disrupted", "evicted-by-node", "drained", "gone"],
)
def test_D_an_interruption_is_tried_again_and_not_counted(runs, end):
    run = runs.apply("hold-learn-1-x", endpoint=None, retries=0)
    end(run.pod("learn").runs())
    run.reaches("Completed")
    record = run.record("learn")
    assert (record["attempt"], record["failures"]) == (2, 0)


def test_three_interruptions_in_a_row_without_progress_are_a_failure(runs):
    run = runs.apply("hold-learn-3-x", endpoint=None, retries=0)
    for attempt in (1, 2, 3):
        run.pod("learn", attempt).ends(75)
    run.reaches("Failed")
    assert "interrupted 3 times without progress" in run.condition("Progressing")["message"]


def test_ranks_over_two_pods_end_with_the_gravest_of_their_exits(runs):
    run = runs.apply("hold-learn-1-x", endpoint=None, compute={"nodes": 2}, retries=0)
    # The Job deletes the first pod as soon as the second has failed. Its process still has its own say, and is looked
    # at before it is gone.
    first, second = run.pod("learn", index=0).runs().stays_when_deleted(), run.pod("learn", index=1).runs()
    second.ends(75)
    first.ends(2, first.result(error={"kind": "BadData", "message": "row 3 is no JSON"}))
    run.reaches("Failed")
    assert "row 3 is no JSON" in run.record("learn")["message"]
    first.node_is_back()


def test_lost_peers_of_one_pod_do_not_hide_the_cause_in_the_other(runs):
    run = runs.apply("hold-learn-1-x", endpoint=None, compute={"nodes": 2}, retries=1)
    first, second = run.pod("learn", index=0).runs().stays_when_deleted(), run.pod("learn", index=1).runs()
    second.ends(137, reason="OOMKilled")
    first.ends(76)
    eventually(lambda: run.record("learn")["failures"] == 1, "the failure is counted")
    first.node_is_back()
    run.reaches("Completed")
    assert run.record("learn")["failures"] == 1
