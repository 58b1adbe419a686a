"""hf:// of a plan, from a server that speaks the hub's protocol, with the hub's own library."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from tests.integration.serving.hub_server import Hub
from tests.unit.trainer.plans_of_data import causal, plan, text, workspace
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_trainer import export, lineage, models, prepare, sources, stored_model
from slipway_trainer.errors import BadConfig, FetchFailed

BASE = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "pytorch_model.bin": b"a pickle"}


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def fetch(repository: str, models: Path) -> Path:
    return stored_model.fetch(f"hf://{repository}", "model.from", models)


def test_every_step_starts_from_the_commit_that_prepare_has_fetched(hub: Hub, tmp_path: Path) -> None:
    """However long ago that was: a branch moves."""
    words = make_tokenizer()
    export.write_model(make_model(words), words, tmp_path / "base")
    hub.put("org/base", {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()})
    hub.put("org/base", {"pytorch_model.bin": b"a pickle", "onnx/config.json": b"{}"})
    commit = hub.commit("org/base")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(text(f"row {n}: " + "abc " * n)) + "\n" for n in range(20)))
    made = plan(causal(f"file://{tmp_path}/rows.jsonl"), model={"from": "hf://org/base"})
    found = workspace(tmp_path, made)
    prepare.run(made, found, attempt=1, say=lambda _: None)
    hub.put("org/base", {"model.safetensors": b"another one"})
    hub.failing.add("model.safetensors")
    model = models.load_for_stage(made, found, "pretrain", device=torch.device("cpu"), dtype=torch.float32)
    expected = models.load_folder(tmp_path / "base", dtype=torch.float32)
    assert torch.equal(model.get_input_embeddings().weight, expected.get_input_embeddings().weight)
    assert lineage.base(made, found)["revision"] == commit
    prepare.run(made, found, attempt=2, say=lambda _: None)
    assert lineage.base(made, found)["revision"] == commit


def test_on_one_disk_with_the_hubs_cache_it_takes_no_room_of_its_own_and_is_fetched_once(
    hub: Hub, tmp_path: Path
) -> None:
    hub.put("org/base", BASE)
    folders = [fetch("org/base", tmp_path / run) for run in ("one", "two")]
    assert [names(folder) for folder in folders] == [["config.json", "model.safetensors"]] * 2
    assert len({(folder / "model.safetensors").stat().st_ino for folder in folders}) == 1
    assert hub.asked.count("model.safetensors") == 1
    assert not (folders[0] / "model.safetensors").is_symlink()


def test_on_another_disk_it_is_copied_from_the_cache_or_fetched_past_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    hub.put("org/base", BASE)
    hub.put("org/cached", BASE)
    fetch("org/cached", tmp_path / "before")
    hub.asked.clear()
    monkeypatch.setattr(os, "link", other_disk)
    for repository in ("org/cached", "org/base"):
        folder = fetch(repository, tmp_path / repository)
        assert names(folder) == ["config.json", "model.safetensors"]
        assert (folder / "model.safetensors").read_bytes() == BASE["model.safetensors"]
    assert hub.asked.count("model.safetensors") == 1
    assert not (tmp_path / "hub-cache/models--org--base/blobs").exists()


def test_without_a_hub_a_model_of_its_cache_is_found(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put("org/base", BASE)
    fetch("org/base", tmp_path / "before")
    commit = stored_model.commit("hf://org/base", tmp_path / "before")
    hub.address = "http://127.0.0.1:9"
    hub.used_by(monkeypatch)
    assert names(fetch("org/base", tmp_path / "after")) == ["config.json", "model.safetensors"]
    assert stored_model.commit("hf://org/base", tmp_path / "after") == commit == hub.commit("org/base")
    with pytest.raises(FetchFailed, match="the hub does not answer"):
        fetch("org/other", tmp_path / "after")


def test_data_comes_as_the_files_that_can_be_read(hub: Hub, tmp_path: Path) -> None:
    hub.put(
        "datasets/org/rows", {"data/b.jsonl": b"{}", "a.parquet": b"x", "script.py": b"import os", "README.md": b"x"}
    )
    found = sources.data_files("hf://org/rows", "stages[0].data.train[0].uri", tmp_path)
    assert [file.name for file in found] == ["hf://org/rows/a.parquet", "hf://org/rows/data/b.jsonl"]


def test_a_private_one_is_read_with_the_token_and_refused_without(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for repository in ("org/private", "datasets/org/private"):
        hub.put(repository, {**BASE, "rows.jsonl": b"{}"})
        hub.private.add(repository)
    refused = r"hf://org/private: cannot be fetched: 401 .*HF_TOKEN.*on a cluster.*Secret with the key `token` in "
    with pytest.raises(BadConfig, match=rf"^model\.from: {refused}model\.credentials$"):
        fetch("org/private", tmp_path)
    with pytest.raises(BadConfig, match=rf"{refused}stages\[0\]\.data\.train\[0\]\.credentials$"):
        sources.data_files("hf://org/private", "stages[0].data.train[0].uri", tmp_path)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert names(fetch("org/private", tmp_path)) == ["config.json", "model.safetensors"]


def test_what_is_not_there_is_bad_input_and_a_hub_that_is_away_is_not(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="hf://org/nobody: cannot be fetched"):
        fetch("org/nobody", tmp_path)
    hub.put("org/busy", BASE)
    hub.put("datasets/org/busy", {"rows.jsonl": b"{}"})
    hub.failing |= {"model.safetensors", "rows.jsonl"}
    with pytest.raises(FetchFailed, match=r"the hub does not answer: .*503"):
        fetch("org/busy", tmp_path)
    with pytest.raises(FetchFailed, match=r"the hub does not answer: .*503"):
        sources.data_files("hf://org/busy", "stages[0].data.train[0].uri", tmp_path)


def test_a_model_that_was_fetched_in_part_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/chat", BASE)
    hub.failing.add("model.safetensors")
    with pytest.raises(FetchFailed):
        fetch("org/chat", tmp_path / "models")
    hub.failing.clear()
    folder = fetch("org/chat", tmp_path / "models")
    assert names(folder) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == BASE["model.safetensors"]
    assert hub.asked.count("config.json") == 1
    assert [path for path in (tmp_path / "models").iterdir() if path.is_dir()] == [folder]
