"""How long a checkpoint stops the training, beside how long it takes to write.

    .venv/bin/python -m bench.checkpoint_stall [--hidden 512] [--layers 8] [--rounds 5]

A Llama from random weights takes one step of AdamW, so that there is a whole state, and its checkpoint is begun and
finished as the loop does: the first is what the training waits for, both together what a synchronous save would be.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.stage import Stage
from slipway_trainer.batches.collate import Batch
from slipway_trainer.model.next_token_loss import NextTokenLoss
from slipway_trainer.step.fence import Fence
from slipway_trainer.training import deepspeed_engine, optimizer, process_group
from slipway_trainer.training.checkpoints.atomic_checkpoints import Checkpoints
from slipway_trainer.training.checkpoints.train_state import TrainState
from slipway_trainer.training.precision import DTYPES, Precision
from slipway_trainer.training.process_group import Ranks

STAGE = Stage.model_validate({"name": "a", "data": {"train": [{"uri": "file://a"}]}}, by_alias=True, by_name=False)


@dataclass(frozen=True)
class Stall:
    """Of the checkpoints of an engine, medians."""

    weights: int
    bytes: int
    whole: float
    """Seconds of copying and writing: what a synchronous save would take."""
    stall: float
    """Seconds that the training waits."""
    first: float
    """Seconds that it waits for the first one, which gets the memory."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=options.hidden,
        intermediate_size=8 * options.hidden // 3,
        num_hidden_layers=options.layers,
        num_attention_heads=8,
    )
    found = measure(config, options.rounds)
    print("\n| weights, M | checkpoint, MB | synchronous save, s | stall, s | share |\n|---|---|---|---|---|")
    print(
        f"| {found.weights / 1e6:.0f} | {found.bytes / 1e6:.0f} | {found.whole:.2f} | {found.stall:.3f} "
        f"| {found.stall / found.whole:.0%} |"
    )


def measure(config: LlamaConfig, rounds: int, precision: Precision = "FP32") -> Stall:
    """Writes so many checkpoints of a model of random weights, on the device that this machine has."""
    ranks = Ranks()
    process_group.connect(ranks)
    engine: Any = engine_of(config, precision, ranks.device)
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        place = Workspace(Path(folder)).stage("a")
        checkpoints = Checkpoints(place, keep=1, fence=Fence(Path(folder) / "fence", 1), ranks=ranks, log=print)
        checkpoints.clean()
        stalls: list[float] = []
        wholes: list[float] = []
        for number in range(1, rounds + 1):
            if ranks.device.type == "cuda":
                torch.cuda.synchronize()
            started = time.monotonic()
            checkpoints.begin(engine, TrainState(step=number))
            stalls.append(time.monotonic() - started)
            checkpoints.finish()
            wholes.append(time.monotonic() - started)
            print(f"round {number}  stall {stalls[-1]:.3f} s, whole {wholes[-1]:.3f} s", flush=True)
        size = sum(file.stat().st_size for file in place.checkpoint(rounds).iterdir())
    weights = sum(p.numel() for p in engine.module.parameters())
    return Stall(weights, size, median(wholes), median(stalls), stalls[0])


def engine_of(config: LlamaConfig, precision: Precision, device: torch.device) -> object:
    """Returns an engine that has taken a step."""
    module = NextTokenLoss(LlamaForCausalLM(config).to(device, DTYPES[precision]), attention="sdpa")  # type: ignore[arg-type]
    module.model.set_attn_implementation("sdpa")  # type: ignore[operator]
    made = optimizer.make(module, STAGE, device)
    settings = deepspeed_engine.configuration(
        precision=precision,
        zero_stage=0 if precision == "FP32" else 1,
        micro_batch=1,
        max_grad_norm=STAGE.optimizer.max_grad_norm,
        world=1,
        device=device.type,
    )
    engine = deepspeed_engine.initialize(module, made, settings)
    batch = Batch.of_documents([torch.arange(16)])
    batch = Batch(batch.input_ids, batch.position_ids, torch.arange(15), torch.arange(1, 16), batch.lengths)
    engine.backward(engine(batch.to(device)))
    engine.step()
    return engine


if __name__ == "__main__":
    main()
