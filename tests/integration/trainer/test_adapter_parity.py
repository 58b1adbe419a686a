"""What a stage learns with an adapter is what plain peft learns: the same losses from the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from tests.integration.trainer.test_adapters import STAGE, base
from tests.integration.trainer.training import Training, make
from torch.nn import functional
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from slipway_trainer.batches import order
from slipway_trainer.batches.shards import Shards

EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": EVERY}
PROMPT: dict[str, Any] = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 5}
RATE = 1e-3
METHODS: dict[str, tuple[dict[str, Any], Any]] = {
    "LoRA": ({"method": "LoRA"}, LoraConfig(**LORA)),
    "DoRA": ({"method": "DoRA"}, LoraConfig(**LORA, use_dora=True)),
    "rsLoRA": ({"rankStabilized": True}, LoraConfig(**LORA, use_rslora=True)),
    "whole": (
        {"modulesToSave": ["embed_tokens"]},
        LoraConfig(**LORA, modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    ),
    "QLoRA": ({"method": "QLoRA"}, LoraConfig(**LORA)),
    "Prefix": ({"method": "Prefix", "virtualTokens": 5}, PrefixTuningConfig(**PROMPT)),
    "PromptTuning": ({"method": "PromptTuning", "virtualTokens": 5}, PromptTuningConfig(**PROMPT)),
    "PTuning": ({"method": "PTuning", "virtualTokens": 5}, PromptEncoderConfig(**PROMPT)),
}


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_of_plain_peft_on_unpacked_rows(tmp_path: Path, method: str) -> None:
    ours, theirs = METHODS[method]
    lora = {} if "virtualTokens" in ours else {"rank": 4, "alpha": 8.0}
    plain = {"learningRate": RATE, "schedule": "Constant", "warmupRatio": 0, "weightDecay": 0, "maxGradNorm": 0}
    settings = STAGE | {"steps": 3, "optimizer": plain, "adapter": lora | ours, "seed": 3}
    run = make(tmp_path / "run", settings, model=base(tmp_path / "base"), documents=40)
    run.train("sft")
    assert run.losses("sft") == pytest.approx(_by_peft(run, tmp_path / "base", theirs, method), abs=1e-5)


def _by_peft(run: Training, folder: Path, config: Any, method: str) -> list[float]:
    """Returns the losses of three steps, each document in a row of its own without padding."""
    held = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    asked = {"quantization_config": held} if method == "QLoRA" else {}
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, **asked)
    torch.manual_seed(3)
    adapted: Any = get_peft_model(model, config)
    adapted.train()
    optimizer = torch.optim.AdamW(
        [p for p in adapted.parameters() if p.requires_grad], lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0
    )
    losses = []
    for documents in _steps(run):
        optimizer.zero_grad()
        total, targets = torch.zeros(()), sum(len(ids) - 1 for ids in documents)
        for ids in documents:
            row = torch.from_numpy(ids.astype(np.int64))[None]
            logits = adapted(input_ids=row).logits[0, -len(ids) :]
            loss = functional.cross_entropy(logits[:-1], row[0, 1:], reduction="sum") / targets
            loss.backward()
            total += loss.detach()
        optimizer.step()
        losses.append(float(total))
    return losses


def _steps(run: Training) -> list[list[np.ndarray]]:
    """Returns the documents of each of the first three steps."""
    shards = Shards.open(run.folder("sft").data("train"))
    stage = run.plan.stage("sft")
    bins = order.epoch(shards, seed=stage.seed, epoch=0, max_length=stage.max_length)
    rows = [[shards.document(int(place))[0] for place in bins.row(number)] for number in range(12)]
    return [[ids for row in rows[start : start + 4] for ids in row] for start in (0, 4, 8)]
