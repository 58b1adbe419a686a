"""Files that go to a claim: whole or not at all, once, and no pod that stays."""

import time

import pytest

from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.kubectl import ClusterError
from slipway.cluster.submit import inputs, upload

SETTINGS = ClientSettings("slipway-train:dev", size="7Gi", storage_class="fast")


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"one\n" * 100_000)
    (folder / "名.jsonl").write_bytes(b"two\n")
    return inputs.read("file://data", tmp_path)


def send(cluster, *found, said=None, sent=lambda one, count: None):
    said = [] if said is None else said
    return upload.send(cluster.kubectl, "slipway-workspace", found, SETTINGS, say=said.append, sent=sent)


def test_files_arrive_whole_and_the_pod_is_gone(cluster, data):
    counts = []
    assert send(cluster, data, sent=lambda one, count: counts.append(count)) == [data]
    arrived = cluster.workspace / data.folder
    assert (arrived / "data/a.jsonl").read_bytes() == b"one\n" * 100_000
    assert (arrived / "data/名.jsonl").read_bytes() == b"two\n"
    assert (arrived.stat().st_mode & 0o777) == 0o755
    assert sum(counts) == data.size
    assert cluster.objects == {}


def test_what_is_there_is_not_sent_again(cluster, data):
    send(cluster, data)
    assert send(cluster, data) == []
    assert len([call for call in cluster.calls("exec") if "--stdin" in call]) == 1


def assert_nothing_is_left(cluster):
    """The shell in the pod removes what it received once it hears that no more comes: after kubectl has ended."""
    deadline = time.monotonic() + 20
    while left := list((cluster.workspace / "inputs").iterdir()):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_a_file_that_changes_meanwhile_leaves_nothing_behind(cluster, data, tmp_path):
    (tmp_path / "data" / "名.jsonl").write_bytes(b"TWO\n")
    with pytest.raises(ClusterError, match="changed while it was sent"):
        send(cluster, data)
    assert_nothing_is_left(cluster)
    assert cluster.objects == {}


def test_a_file_that_grows_meanwhile_is_noticed_before_it_is_sent(cluster, data, tmp_path):
    (tmp_path / "data" / "名.jsonl").write_bytes(b"longer\n")
    with pytest.raises(ClusterError, match=r"名\.jsonl: changed while it was sent"):
        send(cluster, data)
    assert_nothing_is_left(cluster)


def test_a_file_that_shrinks_while_it_is_sent_is_named(cluster, data, tmp_path):
    file = tmp_path / "data" / "a.jsonl"
    with pytest.raises(ClusterError, match=r"data/a\.jsonl: changed while it was sent; submit again"):
        send(cluster, data, sent=lambda one, count: file.write_bytes(b""))
    assert not (cluster.workspace / data.folder).exists()
    assert cluster.objects == {}


def test_a_connection_that_breaks_is_named_and_the_pod_is_gone(cluster, data):
    cluster.refuse("exec --stdin", "error: unexpected EOF")
    with pytest.raises(ClusterError, match=r"file://data: was not sent: .*unexpected EOF; submit again"):
        send(cluster, data)
    assert cluster.objects == {}


def test_what_a_killed_upload_left_goes_after_a_day(cluster, data):
    import os

    for name, age in (("old", 3 * 86400), ("new", 0)):
        folder = cluster.workspace / "inputs" / f".upload-{name}"
        folder.mkdir(parents=True)
        os.utime(folder, (folder.stat().st_mtime - age,) * 2)
    send(cluster, data)
    assert sorted(p.name for p in (cluster.workspace / "inputs").iterdir()) == [".upload-new", data.digest]


def test_the_claim_is_made_once_with_the_class_and_size_of_the_chart(cluster):
    for _ in range(2):
        upload.ensure_claim(cluster.kubectl, SETTINGS)
    claim = cluster.objects["persistentvolumeclaim/slipway-workspace"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "7Gi"
    assert len(cluster.calls("create")) == 1
