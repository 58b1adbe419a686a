from datetime import UTC, datetime, timedelta

import pytest

from slipway_core.resources.conditions import Blocker, timestamp
from slipway_operator.endpoints.observe import VersionObjects, view

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WAS_READY = {"conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}


@pytest.mark.parametrize(("ago", "state"), [(3, "Ready"), (-3, "Ready"), (30, "Unready"), (-3600, "Unready")])
def test_a_server_that_stopped_answering_is_given_a_moment_and_no_more_by_a_clock_that_is_ahead(ago, state):
    since = NOW - timedelta(seconds=ago)
    started = {"running": {"startedAt": timestamp(NOW - timedelta(hours=1))}}
    pod = {
        "metadata": {"name": "chat-v1-0", "creationTimestamp": timestamp(NOW - timedelta(hours=1))},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": timestamp(since)}],
            "containerStatuses": [{"name": "server", "state": started}],
        },
    }
    deployment = {"metadata": {"name": "chat-v1"}, "spec": {"replicas": 1}, "status": WAS_READY}
    seen = view(VersionObjects(deployment, (pod,)), NOW)
    assert seen is not None
    assert seen.state == state


def test_a_version_that_was_live_and_finds_no_place_says_why():
    deployment = {"metadata": {"name": "chat-v1"}, "spec": {"replicas": 1}, "status": WAS_READY}
    pod = {"metadata": {"name": "chat-v1-0"}, "status": {"phase": "Pending"}}
    unplaced = Blocker("Unschedulable", "NoNodeFits", "no node takes the pod chat-v1-0")
    for hindrances, why in (((unplaced,), unplaced.message), ((), "none of its pods is ready")):
        seen = view(VersionObjects(deployment, (pod,)), NOW, hindrances)
        assert seen is not None
        assert (seen.state, seen.message) == ("Unready", why)


def test_a_version_that_was_live_tells_of_a_pod_that_crashes_beside_one_that_finds_no_place():
    deployment = {"metadata": {"name": "chat-v1"}, "spec": {"replicas": 2}, "status": WAS_READY}
    said = "/model/model.safetensors: damaged: 100 bytes."
    server = {
        "name": "server",
        "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 2, "message": said}},
    }
    crashes = {"metadata": {"name": "chat-v1-0"}, "status": {"phase": "Running", "containerStatuses": [server]}}
    pending = {"metadata": {"name": "chat-v1-1"}, "status": {"phase": "Pending"}}
    unplaced = Blocker("Unschedulable", "NoNodeFits", "no node takes the pod chat-v1-1.")
    for pods in ((crashes, pending), (pending, crashes)):
        seen = view(VersionObjects(deployment, pods), NOW, (unplaced,))
        assert seen is not None
        assert (seen.state, seen.message) == ("Unready", f"{said.rstrip('.')}; no node takes the pod chat-v1-1.")
