"""The short-lived pod: what the cluster may hold against it, where it goes, and when it ends."""

import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from slipway.cluster import client_settings
from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.kubectl import ClusterError
from slipway.cluster.pods import helper_pod
from slipway.cluster.pods.helper_pod import HelperPod

SETTINGS = ClientSettings("slipway-train:dev", pull_secrets=("registry",))


def test_it_is_restricted_and_ends_by_itself():
    manifest = HelperPod("read", "slipway-workspace", writes=None, lifetime=60).manifest(SETTINGS)
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


def test_H_an_upload_writes_the_folder_of_uploads_alone_which_is_made_before_as_the_user_that_writes():
    spec = HelperPod("upload", "slipway-workspace", writes="inputs", lifetime=60).manifest(SETTINGS)["spec"]
    (first,), (container,) = spec["initContainers"], spec["containers"]
    assert container["volumeMounts"] == [
        {"name": "workspace", "mountPath": "/workspace/inputs", "subPath": "inputs"},
    ]
    assert first["command"] == ["mkdir", "-p", "--", "/workspace/inputs"]
    assert first["volumeMounts"] == [{"name": "workspace", "mountPath": "/workspace"}]
    for one in (first, container):
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def a_pod(name, phase, claim, **spec):
    """A pod that mounts a claim."""
    volume = {"name": "workspace", "persistentVolumeClaim": {"claimName": claim}}
    return {"metadata": {"name": name}, "spec": {"volumes": [volume], **spec}, "status": {"phase": phase}}


def test_it_goes_where_the_claim_is_when_that_is_possible(cluster):
    tainted = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    there = [
        a_pod("other", "Running", "else", nodeName="a"),
        a_pod("ended", "Failed", "it", nodeName="b"),
        a_pod("queued", "Pending", "it"),
        a_pod("starts", "Pending", "it", nodeName="c"),
        a_pod("runs", "Running", "it", nodeName="d", tolerations=tainted),
    ]
    cluster.save(**{f"pod/{pod['metadata']['name']}": pod for pod in there})
    with helper_pod.running(cluster.kubectl, HelperPod("read", "it", None, 60), SETTINGS, print) as name:
        spec = cluster.objects[f"pod/{name}"]["spec"]
    [preferred] = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["preference"]["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["d"]}]
    assert spec["tolerations"] == tainted


def test_it_goes_anywhere_when_nobody_has_the_claim_or_that_cannot_be_seen(cluster):
    for _ in range(2):
        with helper_pod.running(cluster.kubectl, HelperPod("read", "it", None, 60), SETTINGS, print) as name:
            assert "affinity" not in cluster.objects[f"pod/{name}"]["spec"]
        cluster.refuse("get pods", "Error from server (Forbidden): pods is forbidden")


@pytest.fixture
def proc(tmp_path):
    """What the pod sees of its processes."""
    (tmp_path / "proc" / "1").mkdir(parents=True)
    (tmp_path / "proc" / "self").mkdir()
    return tmp_path / "proc"


@contextmanager
def waiting(proc):
    """What the pod runs, in which a look for processes takes no minute."""
    with subprocess.Popen(helper_pod.wait_command(str(proc), 0.05, 3)) as process:
        yield process
        process.kill()


def test_it_ends_by_itself_when_nothing_is_executed_in_it_any_more(proc):
    with waiting(proc) as waits:
        assert waits.wait(60) == 0


def test_it_stays_as_long_as_something_is_executed_in_it(proc):
    (proc / "77").mkdir()
    with waiting(proc) as waits:
        with pytest.raises(subprocess.TimeoutExpired):
            waits.wait(1)
        (proc / "77").rmdir()
        assert waits.wait(60) == 0


def test_it_ends_at_once_when_it_is_deleted(proc):
    (proc / "77").mkdir()
    with waiting(proc) as waits:
        deadline = time.monotonic() + 60
        while not Path(f"/proc/{waits.pid}/task/{waits.pid}/children").read_text():
            assert time.monotonic() < deadline, "it does not wait"
            time.sleep(0.01)
        waits.terminate()
        assert waits.wait(60) == 0


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
