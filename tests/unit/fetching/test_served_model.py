from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_fetching import command, served_model
from slipway_fetching.errors import Misconfigured, NoRoom, Refused, Unavailable
from slipway_fetching.served_model import INCOMING
from slipway_fetching.stored_object import StoredObject

NOW = datetime(2026, 1, 2, tzinfo=UTC)
URI = "s3://models/chat"


class Folder:
    """A store that is a folder of this machine, and counts what is read. Changed files have another time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.read: list[str] = []
        self.failing = ""

    def folder(self) -> dict[str, StoredObject]:
        found = {path.relative_to(self.root).as_posix(): path.stat() for path in self.root.rglob("*") if path.is_file()}
        return {
            name: StoredObject(name, file.st_size, None, str(file.st_mtime_ns)) for name, file in sorted(found.items())
        }

    def lacking(self, wanted: Mapping[str, StoredObject], folder: Path) -> list[StoredObject]:
        return [one for name, one in wanted.items() if not (folder / name).exists()]

    def bring(self, wanted: Mapping[str, StoredObject], folder: Path) -> None:
        for one in self.lacking(wanted, folder):
            if one.key == self.failing:
                raise Unavailable("the network is gone")
            self.read.append(one.key)
            (folder / one.key).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / one.key, folder / one.key)


@pytest.fixture
def stored(tmp_path: Path) -> Folder:
    """The files of a model, without a manifest."""
    root = tmp_path / "stored"
    (root / "tokenizer").mkdir(parents=True)
    (root / "config.json").write_text("{}", encoding="utf-8")
    (root / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (root / "tokenizer/merges.txt").write_text("a b", encoding="utf-8")
    return Folder(root)


def exported(source: Folder) -> Manifest:
    manifest = artifact.build(
        source.root, run="chat", plan_digest="sha256:" + "1" * 64, created_at="2026-01-01T00:00:00Z"
    )
    (source.root / artifact.MANIFEST).write_text(artifact.dump(manifest), encoding="utf-8")
    return manifest


def fetched(source: Folder, to: Path, *, digest: str | None = None, accept_unjudged: bool = False) -> Manifest:
    return served_model.fetch(source, URI, to, digest=digest, accept_unjudged=accept_unjudged, now=NOW)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_artifact_arrives_whole_and_nothing_beside_it(stored: Folder, tmp_path: Path) -> None:
    manifest = exported(stored)
    (stored.root / "pytorch_model.bin").write_bytes(b"code")
    assert fetched(stored, tmp_path / "model", digest=manifest.digest) == manifest
    assert names(tmp_path / "model") == {*manifest.files, "manifest.json"}
    artifact.verify(tmp_path / "model", manifest.digest)
    assert "pytorch_model.bin" not in stored.read


def test_a_model_that_is_there_already_is_not_read_again(stored: Folder, tmp_path: Path) -> None:
    manifest = exported(stored)
    fetched(stored, tmp_path / "model")
    stored.read.clear()
    assert fetched(stored, tmp_path / "model", digest=manifest.digest) == manifest
    assert stored.read == []


@pytest.mark.parametrize("moved", [(), ("config.json",), ("config.json", "manifest.json")])
def test_what_an_interrupted_fetch_left_is_fetched_again(
    moved: tuple[str, ...], stored: Folder, tmp_path: Path
) -> None:
    exported(stored)
    model = tmp_path / "model"
    (model / INCOMING).mkdir(parents=True)
    (model / INCOMING / "model.safetensors").write_bytes(b"half")
    for name in moved:
        (model / name).write_text("old", encoding="utf-8")
    fetched(stored, model)
    artifact.verify(model)
    assert not (model / INCOMING).exists()


def test_what_is_there_in_full_is_not_fetched_again(stored: Folder, tmp_path: Path) -> None:
    exported(stored)
    stored.failing = "tokenizer/merges.txt"
    with pytest.raises(Unavailable):
        fetched(stored, tmp_path / "model")
    assert names(tmp_path / "model") & {"config.json", "manifest.json"} == set()
    assert stored.read == ["manifest.json", "config.json", "model.safetensors"]
    stored.failing = ""
    manifest = fetched(stored, tmp_path / "model")
    assert stored.read == ["manifest.json", "config.json", "model.safetensors", "tokenizer/merges.txt"]
    assert names(tmp_path / "model") == {*manifest.files, "manifest.json"}
    artifact.verify(tmp_path / "model", manifest.digest)


def test_what_was_fetched_of_another_version_is_not_mixed_in(stored: Folder, tmp_path: Path) -> None:
    stored.failing = "model.safetensors"
    with pytest.raises(Unavailable):
        fetched(stored, tmp_path / "model", accept_unjudged=True)
    (stored.root / "config.json").write_text('{"a": 1}', encoding="utf-8")
    stored.failing = ""
    fetched(stored, tmp_path / "model", accept_unjudged=True)
    assert (tmp_path / "model/config.json").read_text(encoding="utf-8") == '{"a": 1}'
    assert stored.read == ["config.json", "config.json", "model.safetensors"]


def test_A_another_model_than_was_judged_is_never_put_there(stored: Folder, tmp_path: Path) -> None:
    exported(stored)
    with pytest.raises(Refused, match="was asked for"):
        fetched(stored, tmp_path / "model", digest="sha256:" + "2" * 64)
    assert stored.read == ["manifest.json"]
    weights = (stored.root / "model.safetensors").read_bytes()
    (stored.root / "model.safetensors").write_bytes(b"swapped")
    with pytest.raises(Refused, match=r"^s3://models/chat: model\.safetensors is not what the manifest says: 7 bytes"):
        fetched(stored, tmp_path / "model")
    with pytest.raises(ArtifactError):
        artifact.verify(tmp_path / "model")
    (stored.root / "model.safetensors").write_bytes(weights)
    fetched(stored, tmp_path / "model")
    artifact.verify(tmp_path / "model")


def test_A_another_model_that_is_there_already_is_refused(stored: Folder, tmp_path: Path) -> None:
    exported(stored)
    fetched(stored, tmp_path / "model")
    with pytest.raises(ArtifactError, match="was asked for"):
        fetched(stored, tmp_path / "model", digest="sha256:" + "2" * 64)
    (tmp_path / "model/config.json").write_text("{ }", encoding="utf-8")
    with pytest.raises(ArtifactError, match="damaged"):
        fetched(stored, tmp_path / "model")


def test_A_a_model_that_nobody_judged_is_taken_only_when_that_is_said(stored: Folder, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="acceptUnjudged"):
        fetched(stored, tmp_path / "refused")
    (stored.root / "pytorch_model.bin").write_bytes(b"code")
    manifest = fetched(stored, tmp_path / "model", accept_unjudged=True)
    assert manifest.files.keys() == {"config.json", "model.safetensors"}
    assert manifest.lineage == {"fetched": URI}
    artifact.verify(tmp_path / "model", manifest.digest)
    assert fetched(stored, tmp_path / "pinned", digest=manifest.digest).digest == manifest.digest
    (stored.root / "config.json").write_text("{} ", encoding="utf-8")
    with pytest.raises(Refused, match="was asked for"):
        fetched(stored, tmp_path / "moved on", digest=manifest.digest)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", ".incoming/x", ".", "", "./"])
def test_H_a_manifest_cannot_write_outside_its_folder(name: str, stored: Folder, tmp_path: Path) -> None:
    manifest = json.loads(artifact.dump(exported(stored)))
    manifest["files"][name] = manifest["files"]["config.json"]
    (stored.root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(Refused, match="no file of its folder; this is no artifact"):
        fetched(stored, tmp_path / "model")


def test_H_weights_that_run_code_are_not_even_read(stored: Folder, tmp_path: Path) -> None:
    manifest = json.loads(artifact.dump(exported(stored)))
    manifest["files"]["model.pt"] = manifest["files"]["config.json"]
    (stored.root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(Refused, match=r"model\.pt: this format can run code"):
        fetched(stored, tmp_path / "model")
    assert stored.read == ["manifest.json"]


def test_a_folder_with_something_else_in_it_is_left_alone(stored: Folder, tmp_path: Path) -> None:
    exported(stored)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(Refused, match=r"is not empty \(thesis\.txt\)"):
        fetched(stored, tmp_path / "home")
    assert names(tmp_path / "home") == {"thesis.txt"}


def test_a_model_without_room_is_refused_before_it_is_read(
    stored: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(stored)
    with (stored.root / "model.safetensors").open("r+b") as file:
        file.truncate(3_000_000_000)
    free = namedtuple("Usage", "total used free")(9_000, 0, 1_600_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(NoRoom) as raised:
        fetched(stored, tmp_path / "model")
    assert str(raised.value) == (
        f"{tmp_path}/model: s3://models/chat takes 3.0 GB and 1.6 GB are free. Free space there, or give the server a "
        "larger volume"
    )
    assert stored.read == ["manifest.json"]
    monkeypatch.setattr(served_model, "open_store", lambda *_: stored)
    result = CliRunner().invoke(command.app, ["--uri", URI, "--to", str(tmp_path / "model")])
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"slipway-fetch: {raised.value}\n")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("pvc://claim/path", "pvc:// is read where it is"),
        ("file:///models/chat", "file:// is read where it is"),
        ("chat", "does not start with one of"),
        ("s3://bucket", "s3://bucket/path"),
    ],
)
def test_what_cannot_be_fetched_is_said_at_once(uri: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=says):
        served_model.store_for(uri, tmp_path / "model")
    result = CliRunner().invoke(command.app, ["--uri", uri, "--to", str(tmp_path / "model")])
    assert result.exit_code != 0
    assert says in result.output
