"""hf:// of a plan, from a server that speaks the hub's protocol, with the hub's own library."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tests.integration.serving.hub_server import Hub
from tests.unit.trainer.plans_of_data import causal, plan, text, workspace
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_trainer.data import prepare
from slipway_trainer.data.data_files import data_files
from slipway_trainer.fetching import stored_model
from slipway_trainer.model import lineage, model_files
from slipway_trainer.model import stage_model as models
from slipway_trainer.step.errors import BadConfig, FetchFailed

BASE = {"config.json": b"{}", "model.safetensors": b"weights" * 1000}
NOT_FETCHED = {"pytorch_model.bin": b"a pickle", "onnx/config.json": b"{}", "modeling.py": b"import os"}
AWAY = "http://127.0.0.1:9"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def fetch(repository: str, models: Path) -> Path:
    return stored_model.fetch(f"hf://{repository}", "model.from", models)


def test_every_step_starts_from_the_commit_that_prepare_has_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long ago that was: a branch moves."""
    words = make_tokenizer()
    model_files.write_model(make_model(words), words, tmp_path / "base")
    commit = hub.put("org/base", {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()} | NOT_FETCHED)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(text(f"row {n}: " + "abc " * n)) + "\n" for n in range(20)))
    made = plan(causal(f"file://{tmp_path}/rows.jsonl"), model={"from": "hf://org/base"})
    found = workspace(tmp_path, made)
    prepare.run(made, found, attempt=1, say=lambda _: None)
    hub.put("org/base", {"model.safetensors": b"another one"})
    shutil.rmtree(tmp_path / "hub-cache")
    hub.address = AWAY
    hub.used_by(monkeypatch)
    model = models.load_for_stage(made, found, "pretrain", device=torch.device("cpu"), dtype=torch.float32)
    expected = models.load_folder(tmp_path / "base", dtype=torch.float32)
    assert torch.equal(model.get_input_embeddings().weight, expected.get_input_embeddings().weight)
    assert lineage.base(made, found)["revision"] == commit


def test_the_revision_of_a_uri_is_what_is_fetched(hub: Hub, tmp_path: Path) -> None:
    old = hub.put("org/base", BASE)
    hub.put("org/base", {"config.json": b"newer"})
    assert (fetch(f"org/base@{old}", tmp_path) / "config.json").read_bytes() == b"{}"
    assert stored_model.commit(f"hf://org/base@{old}", tmp_path) == old
    with pytest.raises(BadConfig, match=r"hf://org/base@v9: cannot be fetched: 404"):
        fetch("org/base@v9", tmp_path)


def test_a_branch_that_moves_while_it_is_fetched_gives_no_mixture(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/base", BASE)
    hub.before_content = lambda: hub.put("org/base", dict.fromkeys(BASE, b"newer")) and None
    folder = fetch("org/base", tmp_path)
    assert {name: (folder / name).read_bytes() for name in names(folder)} == {
        name: BASE[name] for name in ("config.json", "model.safetensors")
    }


@pytest.mark.parametrize("in_a_pod", [True, False])
def test_a_model_is_fetched_once_and_takes_its_room_once(
    in_a_pod: bool, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("org/base", BASE | NOT_FETCHED)
    if in_a_pod:
        monkeypatch.setenv("SLIPWAY_CLAIMS", "/claims")
    folders = [fetch("org/base", tmp_path / run) for run in ("one", "two")]
    assert [names(folder) for folder in folders] == [["config.json", "model.safetensors"]] * 2
    links = [(folder / "model.safetensors").stat().st_nlink for folder in folders]
    # A pod's cache goes with it, so there is none that its workspace would share.
    assert links == ([1, 1] if in_a_pod else [3, 3])
    assert (tmp_path / "hub-cache").exists() is not in_a_pod
    assert hub.asked.count("model.safetensors") == (2 if in_a_pod else 1)
    for folder in folders:
        assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]
        assert not (folder / "model.safetensors").is_symlink()


def test_where_there_are_no_links_it_is_copied(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    hub.put("org/base", BASE)
    monkeypatch.setattr(os, "link", other_disk)
    folder = fetch("org/base", tmp_path / "models")
    assert (folder / "model.safetensors").read_bytes() == BASE["model.safetensors"]
    assert (folder / "model.safetensors").stat().st_nlink == 1


def test_without_a_hub_a_model_of_its_cache_is_found(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.put("org/base", BASE | NOT_FETCHED)
    fetch("org/base", tmp_path / "before")
    hub.address = AWAY
    hub.used_by(monkeypatch)
    said = list[str]()
    folder = stored_model.fetch("hf://org/base", "model.from", tmp_path / "after", say=said.append)
    assert names(folder) == ["config.json", "model.safetensors"]
    assert stored_model.commit("hf://org/base", tmp_path / "after") == commit
    assert said == [f"no hub answers: hf://org/base is as it was when it was fetched last, at {commit}"]
    with pytest.raises(FetchFailed, match="the hub does not answer"):
        fetch("org/other", tmp_path / "after")


@pytest.mark.parametrize("missing", ["model.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json"])
def test_without_a_hub_a_part_of_a_model_is_not_taken_for_it(
    missing: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("org/base", {**BASE, "model-00001-of-00002.safetensors": b"a", "tokenizer.json": b"{}", missing: b"x"})
    hub.failing.add(missing)
    with pytest.raises(FetchFailed):
        fetch("org/base", tmp_path)
    address, hub.address = hub.address, AWAY
    hub.used_by(monkeypatch)
    with pytest.raises(FetchFailed, match="the hub does not answer"):
        fetch("org/base", tmp_path)
    hub.failing.clear()
    hub.address = address
    hub.used_by(monkeypatch)
    assert missing in names(fetch("org/base", tmp_path))


def test_data_comes_as_the_files_that_can_be_read(hub: Hub, tmp_path: Path) -> None:
    hub.put(
        "datasets/org/rows", {"data/b.jsonl": b"{}", "a.parquet": b"x", "script.py": b"import os", "README.md": b"x"}
    )
    found = data_files("hf://org/rows", "stages[0].data.train[0].uri", tmp_path)
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
        data_files("hf://org/private", "stages[0].data.train[0].uri", tmp_path)
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
        data_files("hf://org/busy", "stages[0].data.train[0].uri", tmp_path)


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
