import pytest
from tests.unit.operator.kube_objects import a_pod

from slipway_core.protocol.exit_codes import ExitClass
from slipway_operator.common import failure_class

DISRUPTED = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}]


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (a_pod(exit_code=0), ExitClass.DONE),
        (a_pod(exit_code=2), ExitClass.BAD_INPUT),
        (a_pod(exit_code=75), ExitClass.INTERRUPTED),
        (a_pod(exit_code=76), ExitClass.LOST_PEERS),
        (a_pod(exit_code=1), ExitClass.FAILED),
        (a_pod(exit_code=137), ExitClass.FAILED),
        (a_pod(exit_code=137, reason="OOMKilled"), ExitClass.FAILED),
        (a_pod(exit_code=137, conditions=DISRUPTED), ExitClass.INTERRUPTED),
        (a_pod(exit_code=143, deleted="2026-01-01T12:01:00Z"), ExitClass.INTERRUPTED),
        (a_pod(exit_code=137, status_reason="Evicted"), ExitClass.INTERRUPTED),
        (a_pod(exit_code=1, conditions=DISRUPTED), ExitClass.FAILED),
        (a_pod(exit_code=2, conditions=DISRUPTED), ExitClass.BAD_INPUT),
        (a_pod(exit_code=137, reason="OOMKilled", conditions=DISRUPTED), ExitClass.FAILED),
        (a_pod(phase="Failed", status_reason="OutOfcpu"), ExitClass.INTERRUPTED),
        (a_pod(phase="Failed", status_reason="UnexpectedAdmissionError"), ExitClass.INTERRUPTED),
        (a_pod(phase="Failed", status_reason="DeadlineExceeded"), ExitClass.FAILED),
        (a_pod(exit_code=128, reason="StartError", message="no such file"), ExitClass.FAILED),
    ],
)
def test_what_an_exit_means(pod, expected):
    assert failure_class.has_ended(pod)
    assert failure_class.end_of(pod).exit_class is expected


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (a_pod(exit_code=137, reason="OOMKilled"), "more memory than its limit"),
        (a_pod(exit_code=137), "killed by signal 9, which the kernel also sends"),
        (a_pod(exit_code=137, conditions=DISRUPTED), "was disrupted: drained"),
        (a_pod(exit_code=143, deleted="2026-01-01T12:01:00Z"), "was deleted"),
        (a_pod(exit_code=3), "ended with exit code 3; `kubectl logs slipway-run-demo-learn-1-0-abcde` has more"),
        (a_pod(exit_code=75), "was told to stop"),
        (a_pod(phase="Failed", status_reason="OutOfcpu"), "ended before its container ran: OutOfcpu"),
    ],
)
def test_why_it_ended_in_words(pod, words):
    assert words in failure_class.end_of(pod).message


def test_a_running_pod_has_not_ended():
    assert not failure_class.has_ended(a_pod())
    assert not failure_class.has_ended(a_pod(deleted="2026-01-01T12:01:00Z"))


@pytest.mark.parametrize("first", ["trainer", "istio-proxy"])
def test_the_trainer_speaks_for_its_pod_and_no_container_that_somebody_injected(first):
    pod = a_pod(exit_code=2, message="why")
    (trainer,) = pod["status"]["containerStatuses"]
    proxy = {"name": "istio-proxy", "state": {"terminated": {"exitCode": 0, "message": "bye"}}}
    pod["status"]["containerStatuses"] = sorted([trainer, proxy], key=lambda one: one["name"] != first)
    end = failure_class.end_of(pod)
    assert (end.exit_class, end.termination_message) == (ExitClass.BAD_INPUT, "why")


def test_a_trainer_that_never_ran_is_not_done_because_what_was_injected_is():
    pod = a_pod(phase="Failed", status_reason="Evicted")
    ended = {"terminated": {"exitCode": 0}}
    pod["status"]["containerStatuses"] = [
        {"name": "istio-proxy", "state": ended},
        {"name": "trainer", "state": {"waiting": {"reason": "PodInitializing"}}},
    ]
    assert failure_class.end_of(pod).exit_class is ExitClass.INTERRUPTED


@pytest.mark.parametrize(
    ("code", "said", "expected", "words"),
    [
        (2, "model.from: pvc://m/x: No such file or directory", ExitClass.BAD_INPUT, "model.from: pvc://m/x: No such"),
        (1, "sh: noise\nmkdir: No space left on device", ExitClass.FAILED, "mkdir: No space left on device"),
        (1, "", ExitClass.FAILED, "ended with exit code 1"),
        (137, "", ExitClass.FAILED, "killed by signal 9"),
    ],
)
def test_what_looks_before_the_trainer_starts_says_why_it_never_did(code, said, expected, words):
    pod = a_pod(phase="Failed")
    ended = {"exitCode": code, "message": said, "finishedAt": "2026-01-01T12:05:00Z"}
    pod["status"]["initContainerStatuses"] = [
        {"name": "istio-init", "state": {"terminated": {"exitCode": 0}}},
        {"name": "sub-paths", "state": {"terminated": ended}},
    ]
    pod["status"]["containerStatuses"] = [{"name": "trainer", "state": {"waiting": {"reason": "PodInitializing"}}}]
    end = failure_class.end_of(pod)
    assert (end.exit_class, end.termination_message, end.finished_at) == (expected, "", ended["finishedAt"])
    assert end.message.startswith(words) or words in end.message


def test_an_eviction_before_the_trainer_starts_is_an_interruption():
    pod = a_pod(phase="Failed", conditions=DISRUPTED)
    ended = {"exitCode": 137, "message": "", "finishedAt": "2026-01-01T12:05:00Z"}
    pod["status"]["initContainerStatuses"] = [{"name": "sub-paths", "state": {"terminated": ended}}]
    assert failure_class.end_of(pod).exit_class is ExitClass.INTERRUPTED
