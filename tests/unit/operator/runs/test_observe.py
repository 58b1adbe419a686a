from datetime import UTC, datetime

import pytest
from tests.unit.operator.kube_objects import a_job, a_pod, a_result

from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.resources.status import Progress
from slipway_operator.runs import observe
from slipway_operator.runs.observe import AttemptKey

NOW = datetime(2026, 1, 1, 12, 10, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
GONE = "2026-01-01T12:09:00Z"


def seen(job, *pods, evicted=False, progress=None):
    objects = observe.group([job] if job else [], pods)
    (one,) = objects.values()
    return observe.attempt(one, claim="slipway-workspace", progress=progress, evicted=evicted, now=NOW)


def test_a_job_without_pods_starts_and_one_with_a_running_pod_runs():
    assert seen(a_job()).state == "Starting"
    assert seen(a_job(), a_pod(phase="Pending")).state == "Starting"
    running = seen(a_job(), a_pod(), progress=Progress(step=3))
    assert (running.state, running.progress) == ("Running", Progress(step=3))


def test_D_an_attempt_has_ended_only_when_no_pod_of_it_has_a_process():
    failed, running = a_pod(index=0, exit_code=1), a_pod(index=1)
    assert seen(a_job(ended="Failed"), failed, running).state != "Ended"
    assert seen(None, a_pod(deleted=GONE)).state == "Running", "its Job is deleted and its pod still writes"
    assert seen(a_job(), a_pod(exit_code=0)).state != "Ended", "the Job may still owe an index a pod"
    assert seen(a_job(ended="Failed"), failed, a_pod(index=1, exit_code=75)).state == "Ended"


def test_D_the_gravest_of_the_pods_speaks_for_all():
    error = {"kind": "OutOfMemory", "message": "out of memory"}
    pods = [
        a_pod(index=0, exit_code=76, message=a_result(error={"kind": "LostPeers", "message": "lost"})),
        a_pod(index=1, exit_code=1, message=a_result(error=error)),
        a_pod(index=2, exit_code=75),
    ]
    found = seen(a_job(ended="Failed"), *pods)
    assert found.exit_class is ExitClass.FAILED
    assert found.result.error.kind == "OutOfMemory"


def test_the_result_is_that_of_rank_0_and_its_artifact_has_its_name_outside_of_the_pod():
    artifact = {"uri": "file:///workspace/demo-0b5e1a52/artifact", "digest": DIGEST}
    pods = [a_pod(index=1, exit_code=0), a_pod(index=0, exit_code=0, message=a_result(artifact=artifact))]
    found = seen(a_job(ended="Complete"), *pods)
    assert found.exit_class is ExitClass.DONE
    assert found.result.artifact.uri == "pvc://slipway-workspace/demo-0b5e1a52/artifact"
    assert found.finished_at == datetime(2026, 1, 1, 12, 5, tzinfo=UTC)


def test_where_a_run_is_seen_is_named_as_people_outside_of_the_pod_know_it():
    links = {"tensorboard": "file:///workspace/demo-0b5e1a52/tensorboard", "mlflow": "http://mlflow/#/runs/1"}
    outside = {**links, "tensorboard": "pvc://slipway-workspace/demo-0b5e1a52/tensorboard"}
    ended = seen(a_job(ended="Complete"), a_pod(exit_code=0, message=a_result(progress={"links": links})))
    assert ended.result.progress.links == outside
    running = seen(a_job(), a_pod(), progress=Progress(step=3, links=links))
    assert running.progress.links == outside


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("", "left no result"),
        ("Segmentation fault", "left no valid result"),
        ('{"step": "learn", "attempt": 1, "metrics": {"a": 1' + " " * 4096, "it was cut off"),
        (a_result(step="evaluate"), "left the result of evaluate, attempt 1"),
        (a_result(attempt=2), "left the result of learn, attempt 2"),
    ],
)
def test_A_a_termination_message_that_is_no_result_is_none_with_its_reason(message, words):
    found = seen(a_job(ended="Complete"), a_pod(exit_code=0, message=message))
    assert found.result is None
    assert words in found.result_error


def test_a_job_that_failed_is_never_done_by_the_pods_that_are_left():
    found = seen(a_job(ended="Failed"), a_pod(index=0, exit_code=0, message=a_result()))
    assert found.exit_class is ExitClass.INTERRUPTED


def test_a_failed_job_without_pods_was_interrupted():
    found = seen(a_job(ended="Failed"))
    assert (found.state, found.exit_class) == ("Ended", ExitClass.INTERRUPTED)
    assert "the Job is Failed" in found.message


def test_a_deleted_job_whose_pods_left_a_word_is_judged_by_it():
    left = a_pod(exit_code=75, deleted=GONE, message=a_result(progress={"step": 7, "total": 9}))
    found = seen(None, left)
    assert found.exit_class is ExitClass.INTERRUPTED
    assert found.result.progress.step == 7


def test_a_job_that_a_queue_holds_starts_and_one_that_it_took_back_was_interrupted():
    held = a_job(suspend=True)
    assert seen(held).state == "Starting"
    assert seen(held, a_pod(deleted=GONE), evicted=True).state == "Running", "its pods are still ending"
    found = seen(held, evicted=True)
    assert (found.state, found.exit_class) == ("Ended", ExitClass.INTERRUPTED)


def test_D_pods_of_an_attempt_that_a_queue_took_back_have_their_say_while_they_are_there():
    checkpoint = a_pod(exit_code=75, deleted=GONE, message=a_result(progress={"step": 7, "total": 9}))
    found = seen(a_job(suspend=True), checkpoint)
    assert (found.state, found.exit_class) == ("Ended", ExitClass.INTERRUPTED)
    assert found.result.progress.step == 7
    assert "the queue took its quota back" in found.message
    assert seen(a_job(suspend=True), a_pod(exit_code=2, deleted=GONE)).exit_class is ExitClass.BAD_INPUT


def test_an_attempt_that_was_done_when_a_queue_took_it_back_waits_for_the_word_of_its_job():
    assert seen(a_job(suspend=True), a_pod(exit_code=0, deleted=GONE), evicted=True).state == "Running"


def test_objects_are_grouped_by_their_labels():
    objects = observe.group([a_job("a"), a_job("a", 2)], [a_pod("a", 2), a_pod("b")])
    assert set(objects) == {AttemptKey("a", 1), AttemptKey("a", 2), AttemptKey("b", 1)}
    assert objects[AttemptKey("b", 1)].job is None
    assert objects[AttemptKey("a", 2)].first_pod is not None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_G_of_pods_that_ended_alike_the_lowest_index_speaks(order):
    pods = [
        a_pod(index=index, exit_code=1, message=a_result(error={"kind": f"E{index}", "message": "m"}))
        for index in order
    ]
    assert seen(a_job(ended="Failed"), *pods).result.error.kind == "E0"
