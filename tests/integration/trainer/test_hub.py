"""hf:// of a plan, from a server that speaks the hub's protocol, with the hub's own library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.integration.fetching.hub_server import AWAY, BASE, NOT_FETCHED, Hub
from tests.unit.trainer.plans_of_data import causal, plan, text, workspace
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_core.resources.data import DataSource
from slipway_fetching import model_cache
from slipway_fetching.errors import Misconfigured, Unavailable
from slipway_trainer.data.hub_files import hub_files
from slipway_trainer.data.reading.block import AS_IT_IS
from slipway_trainer.model import lineage, model_files
from slipway_trainer.model import stage_model as models
from slipway_trainer.prepare import prepare
from slipway_trainer.step.requester import requester


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def fetch(repository: str, models: Path) -> Path:
    return model_cache.fetch(f"hf://{repository}", requester("model.from"), models)


def rows_of(repository: str, data: Path) -> None:
    source = DataSource(uri=f"hf://{repository}")
    hub_files(source, "stages[0].data.train[0].uri", AS_IT_IS, data, data / "commits")


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


def test_a_private_one_is_read_with_the_token_and_refused_without(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for repository in ("org/private", "datasets/org/private"):
        hub.put(repository, {**BASE, "rows.jsonl": b"{}"})
        hub.private.add(repository)
    refused = r"hf://org/private: cannot be fetched: 401 .*HF_TOKEN.*on a cluster.*Secret with the key `token` in "
    with pytest.raises(Misconfigured, match=rf"^model\.from: {refused}model\.credentials$"):
        fetch("org/private", tmp_path)
    with pytest.raises(Misconfigured, match=rf"{refused}stages\[0\]\.data\.train\[0\]\.credentials$"):
        rows_of("org/private", tmp_path)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert names(fetch("org/private", tmp_path)) == ["config.json", "model.safetensors"]


def test_what_is_not_there_is_bad_input_and_a_hub_that_is_away_is_not(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="hf://org/nobody: cannot be fetched"):
        fetch("org/nobody", tmp_path)
    hub.put("org/busy", BASE)
    hub.put("datasets/org/busy", {"rows.jsonl": b"{}"})
    hub.failing |= {"model.safetensors", "rows.jsonl"}
    with pytest.raises(Unavailable, match=r"the hub does not answer: .*503"):
        fetch("org/busy", tmp_path)
    with pytest.raises(Unavailable, match=r"the hub does not answer: .*503"):
        rows_of("org/busy", tmp_path)
