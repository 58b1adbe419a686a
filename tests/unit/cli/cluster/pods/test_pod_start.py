"""What is told of a pod that does not start: by its status, or by its Events, which alone know of volumes."""

import pytest

from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.kubectl import ClusterError
from slipway.cluster.pods import helper_pod, pod_start
from slipway.cluster.pods.helper_pod import HelperPod

SETTINGS = ClientSettings("slipway-train:dev")
NAME = "pod/slipway-upload-abcde"
METADATA = {"name": "slipway-upload-abcde", "uid": "u"}


def waiting(reason, message="no"):
    state = {"waiting": {"reason": reason, "message": message}}
    return {"status": {"phase": "Pending", "containerStatuses": [{"name": "helper", "state": state}]}}


def first(**state):
    """A pod whose folder is still being made, or could not be."""
    own = {"phase": "Failed" if "terminated" in state else "Pending"}
    return {"status": {**own, "initContainerStatuses": [{"name": "folder", "state": state}]}}


NO_ROOM = "mkdir: cannot create directory '/workspace/inputs': No space left on device"
UNSCHEDULABLE = {
    "status": {
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: no memory"}
        ]
    }
}


def test_what_keeps_it_from_running_is_read_from_its_status():
    assert pod_start.blocker(UNSCHEDULABLE) == ("Unschedulable", "0/1 nodes: no memory")
    assert pod_start.blocker(waiting("ErrImagePull")) == ("ErrImagePull", "ErrImagePull: no")
    assert pod_start.blocker(waiting("ContainerCreating")) == ("", "")
    assert pod_start.blocker(first(waiting={"reason": "ErrImagePull", "message": "no"}))[0] == "ErrImagePull"
    assert pod_start.blocker(first(terminated={"exitCode": 0, "message": ""})) == ("", "")


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (UNSCHEDULABLE, "does not start: 0/1 nodes: no memory"),
        (waiting("ErrImageNeverPull"), "name an image that the nodes can pull with --image"),
        (waiting("ImagePullBackOff"), "ImagePullBackOff"),
        (
            first(terminated={"exitCode": 1, "reason": "Error", "message": f"{NO_ROOM}\n"}),
            f"before it was used: {NO_ROOM}",
        ),
        ({"status": {"phase": "Failed", "reason": "Evicted", "message": "disk"}}, "ended before it was used: disk"),
    ],
)
def test_one_that_does_not_start_is_named_and_removed(cluster, monkeypatch, status, told):
    pod = HelperPod("upload", "slipway-workspace", writes="inputs", lifetime=60)
    said = []
    monkeypatch.setattr(pod_start, "START_SECONDS", 2)
    monkeypatch.setattr(pod_start, "_PULL_SECONDS", 1)

    def becomes(_seconds):
        cluster.save(**{NAME: {"metadata": METADATA, **status}})

    monkeypatch.setenv("KUBECTL_NEW_POD", "Pending")
    with (
        pytest.raises(ClusterError, match=told),
        helper_pod.running(cluster.kubectl, pod, SETTINGS, said.append, becomes),
    ):
        pass
    assert cluster.objects == {}


def event(second, reason, message, newer=True, **others):
    """An Event about the pod; the scheduler and the kubelet write its time in fields of their own."""
    time = f"2026-01-02T03:04:{second:02}"
    told = {"eventTime": f"{time}.123456Z", "lastTimestamp": None} if newer else {"lastTimestamp": f"{time}Z"}
    about = {"involvedObject": {"uid": "u"}, "type": "Warning"}
    return {"metadata": {}, **about, "reason": reason, "message": message, **told, **others}


def started(cluster, monkeypatch, pod, events, **objects):
    """Returns what is said while it waits, and of what it ends."""
    monkeypatch.setattr(pod_start, "START_SECONDS", 2)
    monkeypatch.setattr(pod_start, "_EVENT_SECONDS", 1)
    monkeypatch.setenv("KUBECTL_NEW_POD", "Pending")
    objects |= {f"event/{number}": event(*told, newer=number % 2) for number, told in enumerate(events)}
    objects["event/normal"] = event(59, "Pulling", "fine", type="Normal")
    objects["event/other"] = event(59, "Failed", "other", involvedObject={"uid": "other"})
    said = []
    helper = HelperPod("upload", "slipway-workspace", writes="inputs", lifetime=60)

    def becomes(_seconds):
        cluster.save(**{NAME: {"metadata": METADATA, "status": {"phase": "Pending"}, **pod}}, **objects)

    with (
        pytest.raises(ClusterError) as caught,
        helper_pod.running(cluster.kubectl, helper, SETTINGS, said.append, becomes),
    ):
        pass
    return said, str(caught.value)


ON_B = {"spec": {"nodeName": "node-b"}}
NO_NODE = (1, "FailedScheduling", "0/2 nodes are available")
ATTACHED = (2, "FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) tang-0')
TIMED_OUT = (9, "FailedMount", "Unable to attach or mount volumes: timed out waiting for the condition")
CLAIMED = {"volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "slipway-workspace"}}]}


def test_a_claim_that_another_node_has_is_named_with_who_has_it_and_what_to_do(cluster, monkeypatch):
    user = {"metadata": {"name": "tang-0"}, "spec": {"nodeName": "node-a", **CLAIMED}, "status": {"phase": "Running"}}
    own = {"spec": {"nodeName": "node-b", **CLAIMED}}
    said, told = started(cluster, monkeypatch, own, [NO_NODE, TIMED_OUT, ATTACHED], **{"pod/tang-0": user})
    assert "FailedAttachVolume: Multi-Attach error" in told
    assert "pod tang-0 has the claim slipway-workspace on node node-a, and node node-b cannot have it too" in told
    assert "try again once it is free, or have runs keep their files in a claim with the access mode" in told
    assert len(said) == 1
    assert "Multi-Attach" in said[0]


def test_a_claim_that_is_still_attached_though_nobody_uses_it_is_named(cluster, monkeypatch):
    _, told = started(cluster, monkeypatch, ON_B, [ATTACHED])
    assert "the claim slipway-workspace is still attached to another node, and node node-b cannot have it too" in told


def test_a_volume_that_cannot_be_mounted_is_named_with_its_node(cluster, monkeypatch):
    _, told = started(cluster, monkeypatch, ON_B, [TIMED_OUT])
    assert "FailedMount: Unable to attach or mount volumes: timed out" in told
    assert "claim slipway-workspace cannot be mounted on node node-b: `kubectl describe pvc slipway-workspace" in told


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("0/2 nodes are available: 2 node(s) had volume node affinity conflict.", "claim slipway-workspace ties it to"),
        ("0/2 nodes: pod has unbound immediate PersistentVolumeClaims.", "kubectl describe pvc slipway-workspace"),
        ("0/2 nodes: 2 Insufficient cpu.", "0/2 nodes: 2 Insufficient cpu."),
    ],
)
def test_of_a_pod_that_no_node_takes_the_newest_reason_is_told(cluster, monkeypatch, message, told):
    _, why = started(cluster, monkeypatch, {}, [(8, "FailedScheduling", message), NO_NODE])
    assert told in why
    assert "0/2 nodes are available: no" not in why


def test_that_no_node_took_it_is_past_once_one_has_taken_it(cluster, monkeypatch):
    said, told = started(cluster, monkeypatch, ON_B, [NO_NODE])
    assert told == "pod slipway-upload-abcde does not start: it gave no reason"
    assert said == []


def test_who_may_not_read_events_is_told_that_they_may_say_why(cluster, monkeypatch):
    cluster.refuse("get events", 'Error from server (Forbidden): events is forbidden: User "ann" cannot list them')
    said, told = started(cluster, monkeypatch, ON_B, [ATTACHED])
    assert "its Events may say why: events is forbidden" in told
    assert said == []
