from __future__ import annotations

import json
import shutil
from collections import namedtuple
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_serving.fetching import command, fetch
from slipway_serving.fetching.fetch import INCOMING, FetchError
from slipway_serving.fetching.model_source import SourceError, open_source

NOW = datetime(2026, 1, 2, tzinfo=UTC)
URI = "s3://models/chat"


class Folder:
    """A source that is a folder of this machine, and counts what is read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.read: list[str] = []

    def files(self) -> dict[str, int]:
        return {p.relative_to(self.root).as_posix(): p.stat().st_size for p in self.root.rglob("*") if p.is_file()}

    def download(self, name: str, target: Path) -> None:
        self.read.append(name)
        shutil.copyfile(self.root / name, target)


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
    return fetch.fetch(source, URI, to, digest=digest, accept_unjudged=accept_unjudged, now=NOW)


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


def test_A_another_model_than_was_judged_is_never_put_there(stored: Folder, tmp_path: Path) -> None:
    exported(stored)
    with pytest.raises(ArtifactError, match="was asked for"):
        fetched(stored, tmp_path / "model", digest="sha256:" + "2" * 64)
    (stored.root / "model.safetensors").write_bytes(b"swapped")
    with pytest.raises(ArtifactError, match="damaged"):
        fetched(stored, tmp_path / "model")
    with pytest.raises(ArtifactError):
        artifact.verify(tmp_path / "model")


def test_A_a_model_that_nobody_judged_is_taken_only_when_that_is_said(stored: Folder, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="acceptUnjudged"):
        fetched(stored, tmp_path / "refused")
    (stored.root / "pytorch_model.bin").write_bytes(b"code")
    manifest = fetched(stored, tmp_path / "model", accept_unjudged=True)
    assert manifest.files.keys() == {"config.json", "model.safetensors"}
    assert manifest.lineage == {"fetched": URI}
    artifact.verify(tmp_path / "model", manifest.digest)
    assert fetched(stored, tmp_path / "pinned", digest=manifest.digest).digest == manifest.digest
    (stored.root / "config.json").write_text("{} ", encoding="utf-8")
    with pytest.raises(ArtifactError, match="was asked for"):
        fetched(stored, tmp_path / "moved on", digest=manifest.digest)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", ".incoming/x", ".", "", "./"])
def test_H_a_manifest_cannot_write_outside_its_folder(name: str, stored: Folder, tmp_path: Path) -> None:
    manifest = json.loads(artifact.dump(exported(stored)))
    manifest["files"][name] = manifest["files"]["config.json"]
    (stored.root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(FetchError, match="no file of its folder; this is no artifact"):
        fetched(stored, tmp_path / "model")


def test_H_weights_that_run_code_are_not_even_read(stored: Folder, tmp_path: Path) -> None:
    manifest = json.loads(artifact.dump(exported(stored)))
    manifest["files"]["model.pt"] = manifest["files"]["config.json"]
    (stored.root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(FetchError, match=r"model\.pt: this format can run code"):
        fetched(stored, tmp_path / "model")
    assert stored.read == ["manifest.json"]


def test_a_folder_with_something_else_in_it_is_left_alone(stored: Folder, tmp_path: Path) -> None:
    exported(stored)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(FetchError, match=r"is not empty \(thesis\.txt\)"):
        fetched(stored, tmp_path / "home")
    assert names(tmp_path / "home") == {"thesis.txt"}


def test_a_model_without_room_is_refused_before_it_is_read(
    stored: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(stored)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(9_000, 0, 9_000))
    with pytest.raises(FetchError, match=r"has 10,245 bytes, and .* has room for 9,000"):
        fetched(stored, tmp_path / "model")
    assert stored.read == ["manifest.json"]


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
    with pytest.raises(SourceError, match=says):
        open_source(uri)
    result = CliRunner().invoke(command.app, ["--uri", uri, "--to", str(tmp_path / "model")])
    assert result.exit_code != 0
    assert says in result.output
