"""How long a checkpoint stops the training, beside how long it takes to write.

    .venv/bin/python -m bench.checkpoint_stall [--hidden 512] [--layers 8] [--rounds 5]

A Llama from random weights takes one step of AdamW, so that there is a whole state, and its checkpoint is begun and
finished as the loop does: the first is what the training waits for, both together what a synchronous save would be.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.optimizer import Optimizer
from slipway_core.resources.stage import Stage
from slipway_trainer.batches.collate import Batch
from slipway_trainer.model.next_token_loss import NextTokenLoss
from slipway_trainer.step.fence import Fence
from slipway_trainer.training import deepspeed_engine, optimizer, process_group
from slipway_trainer.training.checkpoints.atomic_checkpoints import Checkpoints
from slipway_trainer.training.checkpoints.train_state import TrainState
from slipway_trainer.training.process_group import Ranks

STAGE = Stage.model_validate({"name": "a", "data": {"train": [{"uri": "file://a"}]}}, by_alias=True, by_name=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ranks = Ranks()
    process_group.connect(ranks)
    engine = engine_of(options.hidden, options.layers, STAGE.optimizer)
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        place = Workspace(Path(folder)).stage("a")
        checkpoints = Checkpoints(place, keep=1, fence=Fence(Path(folder) / "fence", 1), ranks=ranks, log=print)
        checkpoints.clean()
        stalls: list[float] = []
        wholes: list[float] = []
        for number in range(1, options.rounds + 1):
            started = time.monotonic()
            checkpoints.begin(engine, TrainState(step=number))
            stalls.append(time.monotonic() - started)
            checkpoints.finish()
            wholes.append(time.monotonic() - started)
            print(f"round {number}  stall {stalls[-1]:.3f} s, whole {wholes[-1]:.3f} s", flush=True)
        size = sum(file.stat().st_size for file in place.checkpoint(options.rounds).iterdir()) / 1e6
    weights = sum(p.numel() for p in engine.module.parameters()) / 1e6
    share = median(stalls) / median(wholes)
    print("\n| weights, M | checkpoint, MB | synchronous save, s | stall, s | share |\n|---|---|---|---|---|")
    print(f"| {weights:.0f} | {size:.0f} | {median(wholes):.2f} | {median(stalls):.3f} | {share:.0%} |")


def engine_of(hidden: int, layers: int, settings: Optimizer) -> object:
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3,
        num_hidden_layers=layers,
        num_attention_heads=8,
    )
    module = NextTokenLoss(LlamaForCausalLM(config), attention="sdpa")
    module.model.set_attn_implementation("sdpa")  # type: ignore[operator]
    made = optimizer.make(module, STAGE, torch.device("cpu"))
    settings_of = deepspeed_engine.configuration(
        precision="FP32", zero_stage=0, micro_batch=1, max_grad_norm=settings.max_grad_norm, world=1
    )
    engine = deepspeed_engine.initialize(module, made, settings_of)
    batch = Batch.of_documents([torch.arange(16)])
    batch = Batch(batch.input_ids, batch.position_ids, torch.arange(15), torch.arange(1, 16), batch.lengths)
    engine.backward(engine(batch))
    engine.step()
    return engine


if __name__ == "__main__":
    main()
