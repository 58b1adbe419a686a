"""How often a container ended, by the status that a kubelet writes of it from one end to the next."""

import pytest

from slipway_core.protocol import container_ends

RUNS = {"running": {"startedAt": "2026-01-01T12:00:00Z"}}
CRASHED = {"terminated": {"exitCode": 1, "reason": "Error"}}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
NOT_SEEN = {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}


def waits(reason):
    return {"waiting": {"reason": reason} if reason else {}}


def pod(number, state, last=None, field="containerStatuses"):
    own = {"name": "own", "restartCount": number, "state": state, "lastState": last or {}}
    return {"status": {field: [own]}}


def times(number, state, last=None, field="containerStatuses"):
    return sum(ends.times for ends in container_ends.of_pod(pod(number, state, last, field)))


@pytest.mark.parametrize("field", ["containerStatuses", "initContainerStatuses"])
def test_an_end_counts_once_from_when_it_comes_until_the_next(field):
    told = [
        (0, RUNS, None), (0, CRASHED, None), (0, waits("CrashLoopBackOff"), CRASHED),
        (1, RUNS, CRASHED), (1, CRASHED, CRASHED), (1, waits("CrashLoopBackOff"), CRASHED),
        (2, waits(""), CRASHED), (2, RUNS, CRASHED), (2, CRASHED, CRASHED), (2, waits("CrashLoopBackOff"), CRASHED),
    ]  # fmt: skip
    assert [times(*one, field) for one in told] == [0, 1, 1, 1, 2, 2, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("number", "state", "last", "ended"),
    [
        # Its image is pulled anew, its Secret is gone: the next container cannot be made.
        (1, waits("ImagePullBackOff"), CRASHED, 2),
        (1, waits("CreateContainerConfigError"), CRASHED, 2),
        # Its node was away and has no container of it any more: the kubelet has counted that end.
        (1, waits("ContainerCreating"), NOT_SEEN, 1),
        (1, waits("PodInitializing"), NOT_SEEN, 1),
        (1, waits("ImagePullBackOff"), NOT_SEEN, 1),
        (1, NOT_SEEN, None, 1),
        (0, waits("ContainerCreating"), None, 0),
        (0, waits("ImagePullBackOff"), None, 0),
        # A server that was told to end, by its probe, is started again all the same.
        (0, DONE, None, 1),
        (0, waits("CrashLoopBackOff"), DONE, 1),
        (1, RUNS, DONE, 1),
    ],
)
def test_a_wait_for_what_is_not_made_yet_is_no_end(number, state, last, ended):
    assert times(number, state, last) == ended


def test_a_fetch_that_is_done_has_not_ended_once_more():
    assert [times(number, DONE, None, "initContainerStatuses") for number in (0, 2)] == [0, 2]
    (fetch,) = container_ends.of_pod(pod(2, DONE, CRASHED, "initContainerStatuses"))
    assert fetch.done
    (server,) = container_ends.of_pod(pod(2, DONE, CRASHED))
    assert not server.done


@pytest.mark.parametrize(
    ("field", "end", "how"),
    [
        ("containerStatuses", {"exitCode": 1}, "its server ended with exit code 1"),
        ("containerStatuses", {"exitCode": 139}, "its server was ended by signal 11"),
        ("initContainerStatuses", {"exitCode": 2}, "the fetch of its model ended with exit code 2"),
        (
            "containerStatuses",
            {"exitCode": 137, "reason": "OOMKilled"},
            "its server used more memory than its limit and was killed (OOMKilled)",
        ),
    ],
)
def test_how_it_ended_at_last(field, end, how):
    (ends,) = container_ends.of_pod(pod(0, {"terminated": end}, None, field))
    assert ends.how == how


def test_of_an_end_that_no_node_knows_any_more_there_is_nothing_but_that():
    (ends,) = container_ends.of_pod(pod(1, RUNS))
    assert (ends.times, ends.how) == (1, "its server ended")
    assert container_ends.of_pod({"status": {"containerStatuses": None}}) == []
