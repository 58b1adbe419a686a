"""hf:// of a plan, from a server that speaks the hub's protocol, with the hub's own library."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.serving.hub_server import Hub

from slipway_trainer import sources, stored_model
from slipway_trainer.errors import BadConfig, FetchFailed

BASE = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "pytorch_model.bin": b"a pickle"}


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_base_model_comes_without_what_can_run_code(hub: Hub) -> None:
    hub.put("org/base", BASE)
    assert names(sources.model_folder("hf://org/base")) == ["config.json", "model.safetensors"]


def test_data_comes_as_the_files_that_can_be_read(hub: Hub, tmp_path: Path) -> None:
    hub.put(
        "datasets/org/rows", {"data/b.jsonl": b"{}", "a.parquet": b"x", "script.py": b"import os", "README.md": b"x"}
    )
    found = sources.data_files("hf://org/rows", "stages[0].data.train[0].uri", tmp_path)
    assert [file.name for file in found] == ["hf://org/rows/a.parquet", "hf://org/rows/data/b.jsonl"]


def test_a_private_one_is_read_with_the_token_and_refused_without(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put("org/private", BASE)
    hub.private.add("org/private")
    with pytest.raises(BadConfig, match=r"^model\.from: hf://org/private: cannot be fetched: 401 .*HF_TOKEN"):
        sources.model_folder("hf://org/private")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert names(sources.model_folder("hf://org/private")) == ["config.json", "model.safetensors"]


def test_what_is_not_there_is_bad_input_and_a_hub_that_is_away_is_not(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadConfig, match="hf://org/nobody: cannot be fetched"):
        sources.model_folder("hf://org/nobody")
    hub.put("org/busy", BASE)
    hub.failing.add("model.safetensors")
    with pytest.raises(FetchFailed, match=r"the hub does not answer: .*503"):
        sources.model_folder("hf://org/busy")
    hub.address = "http://127.0.0.1:9"
    hub.used_by(monkeypatch)
    with pytest.raises(FetchFailed, match="the hub does not answer"):
        sources.model_folder("hf://org/other")
    with pytest.raises(FetchFailed, match="the hub does not answer"):
        stored_model.fetch("hf://org/other", "model.from", Path("/nonexistent"))


def test_a_model_that_was_fetched_in_part_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/chat", BASE)
    hub.failing.add("model.safetensors")
    with pytest.raises(FetchFailed):
        stored_model.fetch("hf://org/chat", "model.from", tmp_path)
    hub.failing.clear()
    folder = stored_model.fetch("hf://org/chat", "model.from", tmp_path)
    assert names(folder) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == BASE["model.safetensors"]
    assert hub.asked.count("config.json") == 1
    assert list(tmp_path.iterdir()) == [folder]
