"""ZeRO-3 builds a model in pieces: the same model, and never the whole of it on a rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.trainer import cut_ranks
from tests.integration.trainer.nursery import Nursery
from tests.integration.trainer.training import PRETRAIN, SCRATCH, make
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_trainer.model import model_files, stage_model
from slipway_trainer.training import deepspeed_engine, division, memory
from slipway_trainer.training.process_group import Ranks
from slipway_trainer.training.stage_attempt import StageAttempt

LARGE = {"layers": 8, "hiddenSize": 1024, "heads": 8, "maxLength": 64, "tokenizer": {"train": {"vocabSize": 320}}}
"""103M weights, of which the largest has 2.9M."""


def build_in_two(ranks: Nursery, folder: Path, *runs: str) -> list[dict[str, dict[str, Any]]]:
    """Returns what both ranks found, by the folder of a run."""
    results = [folder / f"rank-{rank}.json" for rank in (0, 1)]
    ranks.run(
        cut_ranks.__file__,
        lambda rank: [str(rank), str(folder / "store"), str(results[rank]), *runs],
        folder / "logs",
    )
    return [json.loads(path.read_text()) for path in results]


def base(folder: Path) -> dict[str, Any]:
    """A base whose vocabulary is smaller than its tokenizer's."""
    words = make_tokenizer()
    make_model(words, vocab_size=320).save_pretrained(str(folder))
    words.save_pretrained(str(folder))
    return {"from": f"file://{folder}"}


@pytest.mark.slow
def test_pieces_make_up_the_model_that_is_built_whole(ranks: Nursery, tmp_path: Path) -> None:
    made = base(tmp_path / "base")
    models = {name: {"scratch": SCRATCH | {"architecture": name}} for name in ("llama", "mistral")}
    models["qwen2"] = {"scratch": SCRATCH | {"architecture": "qwen2", "tieEmbeddings": False}}
    models["added"] = made | {"addTokens": ["<x>", "<y>"]}
    runs = {name: make(tmp_path / name, model=model) for name, model in models.items()}
    adapters: dict[str, dict[str, Any]] = {
        "lora": {"rank": 4},
        "saved": {"rank": 4, "modulesToSave": ["embed_tokens"]},
        "dora": {"method": "DoRA", "rank": 4},
    }
    for name, adapter in adapters.items():
        runs[name] = make(tmp_path / name, PRETRAIN | {"adapter": adapter}, model=made)
    first = PRETRAIN | {"name": "adapt", "steps": 2, "adapter": adapters["saved"]}
    runs["second"] = make(tmp_path / "second", first, PRETRAIN, model=made)
    runs["second"].train("adapt")
    halves = [f"bfloat16:{runs[name].workspace.root}" for name in ("llama", "lora")]
    asked = [f"float32:{run.workspace.root}" for name, run in runs.items() if name not in ("llama", "lora")]
    for found in build_in_two(ranks, tmp_path, *asked, *halves):
        assert {Path(root).parent.name: each["others"] for root, each in found.items()} == {name: [] for name in runs}


@pytest.mark.slow
def test_no_rank_has_more_than_its_pieces_and_a_layer(ranks: Nursery, tmp_path: Path) -> None:
    new = make(tmp_path / "new", model={"scratch": LARGE})
    stored = tmp_path / "base"
    stage_model.load_composed(new.plan, new.workspace, None).save_pretrained(str(stored))
    for file in new.workspace.tokenizer.iterdir():
        (stored / file.name).write_bytes(file.read_bytes())
    loaded = make(tmp_path / "loaded", model={"from": f"file://{stored}"})
    for found in build_in_two(ranks, tmp_path, *(str(run.workspace.root) for run in (new, loaded))):
        for run in (new, loaded):
            each = found[str(run.workspace.root)]
            assert each["bytes"] > 400e6
            assert each["peak"] < 0.6 * each["bytes"], each


ADAPTED = PRETRAIN | {"adapter": {"rank": 4}}
LLAMA_3_8B = LARGE | {"layers": 32, "hiddenSize": 4096, "heads": 32, "intermediateSize": 14336}


@pytest.mark.parametrize(
    ("stage", "gib", "zero"),
    [(PRETRAIN, 300, 0), (PRETRAIN, 90, 3), (ADAPTED, 90, 0), (ADAPTED, 28, 3)],
    ids=["whole, fits", "whole, in pieces", "adapter, fits", "adapter, in pieces"],
)
def test_whether_weights_are_cut_is_told_before_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: dict[str, Any], gib: int, zero: int
) -> None:
    """Of a model of which this machine could not hold the half."""
    run = make(tmp_path, stage, model={"scratch": LLAMA_3_8B})
    monkeypatch.setattr(memory, "free_bytes", lambda *_: gib << 30)
    attempt = StageAttempt(run.plan, run.workspace, run.plan.stages[0], 1, Ranks(rank=0, world=2), None)
    assert division.zero_stage(attempt, "FP32") == zero


@pytest.mark.parametrize("zero", [0, 3])
def test_a_stage_writes_its_weights_a_file_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zero: int
) -> None:
    settings = PRETRAIN | {"steps": 2, "memory": {"zeroStage": zero}}
    one, parts = make(tmp_path / "one", settings), make(tmp_path / "parts", settings)
    one.train()
    asked: list[int] = []
    gather = deepspeed_engine.gathered_state

    def gathered(engine: Any, names: list[str]) -> dict[str, torch.Tensor]:
        found = gather(engine, names)
        asked.append(sum(weight.nbytes for weight in found.values()))
        return found

    monkeypatch.setattr(deepspeed_engine, "gathered_state", gathered)
    monkeypatch.setattr(model_files, "SHARD_SIZE", 60_000)
    parts.train()
    files = sorted(parts.folder().model.glob("*.safetensors"))
    assert len(files) == len(asked) > 1
    assert max(asked) <= 60_000
    found = {name: weight for file in files for name, weight in load_file(file).items()}
    wanted = load_file(one.folder().model / "model.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())
    loaded = stage_model.load_final(parts.plan, parts.workspace).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in wanted.items())
