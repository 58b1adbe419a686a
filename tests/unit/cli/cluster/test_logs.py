"""Which pods' logs are shown, and in which order."""

import pytest
from tests.unit.cli.evidence import run_named

from slipway.cluster import logs
from slipway.exits import BadInput
from slipway.place import LogRequest, check_step

RUNNING = {"running": {}}
WAITING = {"waiting": {"reason": "ContainerCreating"}}


def pod(name, step, attempt, index=0, state=RUNNING):
    noted = {"slipway.dev/step": step, "slipway.dev/attempt": str(attempt), logs.INDEX: str(index)}
    status = {"containerStatuses": [{"name": "trainer", "state": state}]}
    return {"metadata": {"name": name, "labels": noted}, "status": status}


PODS = [
    pod("d", "pretrain", 2, 1),
    pod("c", "pretrain", 2, 0),
    pod("b", "pretrain", 1),
    pod("a", "prepare", 1),
    {"metadata": {"name": "other"}},
]


def titles(**wanted):
    return [source.title for source in logs.of_run(run_named(), PODS, LogRequest("tang", **wanted))]


def test_the_newest_attempts_come_in_the_order_of_steps_and_pods():
    assert titles() == ["prepare, attempt 1", "pretrain, attempt 2, pod 0", "pretrain, attempt 2, pod 1"]
    assert titles(step="pretrain", attempt=1) == ["pretrain, attempt 1"]
    assert titles(step="sft") == []


def test_a_pod_whose_container_has_not_run_has_no_log_yet():
    sources = logs.of_run(run_named(), [pod("a", "prepare", 1, state=WAITING)], LogRequest("tang"))
    assert [source.started for source in sources] == [False]


def test_versions_of_an_endpoint_come_in_their_order_as_numbers():
    pods = [{"metadata": {"name": f"chat-{n}", "labels": {"slipway.dev/version": str(n)}}} for n in (10, 9)]
    assert [source.pod for source in logs.of_endpoint(pods)] == ["chat-9", "chat-10"]


def test_a_step_that_the_run_has_not_is_refused_with_those_it_has():
    with pytest.raises(BadInput, match="it has prepare, pretrain, sft, export, evaluate and serve"):
        check_step(LogRequest("tang", "x"), run_named())
