"""The short-lived pod: what the cluster may hold against it, and what is told of one that does not start."""

import pytest

from slipway.cluster import client_settings, helper_pod
from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.helper_pod import HelperPod
from slipway.cluster.kubectl import ClusterError

SETTINGS = ClientSettings("slipway-train:dev", pull_secrets=("registry",))


def test_it_is_restricted_and_ends_by_itself():
    manifest = HelperPod("read", "slipway-workspace", writes=False, lifetime=60).manifest(SETTINGS)
    spec = manifest["spec"]
    container = spec["containers"][0]
    assert spec["activeDeadlineSeconds"] == 60
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["volumeMounts"][0]["readOnly"] is True
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert manifest["metadata"]["labels"]["slipway.dev/role"] == "read"


def waiting(reason, message="no"):
    state = {"waiting": {"reason": reason, "message": message}}
    return {"status": {"phase": "Pending", "containerStatuses": [{"name": "helper", "state": state}]}}


UNSCHEDULABLE = {
    "status": {
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: no memory"}
        ]
    }
}


def test_what_keeps_it_from_running_is_read_from_its_status():
    assert helper_pod.blocker(UNSCHEDULABLE) == ("Unschedulable", "0/1 nodes: no memory")
    assert helper_pod.blocker(waiting("ErrImagePull")) == ("ErrImagePull", "ErrImagePull: no")
    assert helper_pod.blocker(waiting("ContainerCreating")) == ("", "")


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (UNSCHEDULABLE, "does not start: 0/1 nodes: no memory"),
        (waiting("ErrImageNeverPull"), "name an image that the nodes can pull with --image"),
        (waiting("ImagePullBackOff"), "ImagePullBackOff"),
        ({"status": {"phase": "Failed", "reason": "Evicted", "message": "disk"}}, "ended before it was used: disk"),
    ],
)
def test_one_that_does_not_start_is_named_and_removed(cluster, monkeypatch, status, told):
    pod = HelperPod("upload", "slipway-workspace", writes=True, lifetime=60)
    said = []
    monkeypatch.setattr(helper_pod, "START_SECONDS", 2)
    monkeypatch.setattr(helper_pod, "_PULL_SECONDS", 1)

    def becomes(_seconds):
        cluster.save(**{"pod/slipway-upload-abcde": {"metadata": {}, **status}})

    monkeypatch.setenv("KUBECTL_NEW_POD", "Pending")
    with (
        pytest.raises(ClusterError, match=told),
        helper_pod.running(cluster.kubectl, pod, SETTINGS, said.append, becomes),
    ):
        pass
    assert cluster.objects == {}


def test_settings_of_the_chart_are_read_and_an_image_of_ones_own_wins():
    text = "images: {train: a:1, pullPolicy: Never, pullSecrets: [s]}\nworkspace: {size: 9Gi, accessModes: [RWX]}\n"
    settings = client_settings.parse(text)
    assert settings == ClientSettings("a:1", "Never", ("s",), None, "9Gi", ("RWX",))
    assert client_settings.parse(text, "b:2").image == "b:2"
    with pytest.raises(ClusterError, match=r"names no images\.train"):
        client_settings.parse("images: {}")


def test_without_the_charts_settings_the_image_has_to_be_named(cluster):
    with pytest.raises(ClusterError, match="name an image to submit with --image"):
        client_settings.read(cluster.kubectl)
    assert client_settings.read(cluster.kubectl, "a:1").image == "a:1"
