"""What DeepSpeed's engine costs one process, beside a plain loop over the same module.

    .venv/bin/python -m bench.engine_cost [--shapes small middle]

Both compute the same loss of the same model on the same batches, on one thread: `engine(batch)`, `engine.backward` and
`engine.step` as the training loop calls them, and `module(batch)`, `loss.backward`, clipping and `optimizer.step`. In
FP32 the engine has ZeRO stage 0, as Slipway chooses for one process; in BF16 stage 1, which keeps master weights and
adds up gradients in float32: the plain loop does so by hand. Nothing else of the loop is in it. The two take turns step
by step in one process, since two processes of the same work differed by a fifth on a busy machine; what counts is the
median of CPU-seconds a step.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "small": {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 352},
    "middle": {"num_hidden_layers": 12, "hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 1408},
}
VOCABULARY = {"small": 3520, "middle": 16000}
STEPS = {"small": 20, "middle": 3}
MICRO_BATCHES, ROWS, LENGTH = 2, 2, 256
RATE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print("RESULT " + json.dumps(measure(*options.child)), flush=True)
        return
    print("| weights, M | precision | plain, CPU-s a step | engine, CPU-s a step | engine costs | losses differ by |")
    print("|---|---|---|---|---|---|", flush=True)
    for shape in options.shapes:
        for precision in ("FP32", "BF16"):
            print(_row(shape, precision), flush=True)


def _row(shape: str, precision: str) -> str:
    found = _child(shape, precision)
    plain, engine = found["plain"], found["engine"]
    return (
        f"| {found['weights'] / 1e6:.1f} | {precision} | {plain:.4f} | {engine:.4f} | {engine / plain - 1:+.1%} "
        f"| {found['apart']:.1e} |"
    )


def _child(shape: str, precision: str) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "bench.engine_cost", "--child", shape, precision]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        sys.exit(f"{shape} in {precision} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(lines[-1].removeprefix("RESULT "))


def measure(shape: str, precision: str) -> dict[str, float]:
    """Returns CPU-seconds a step of both, after one that is not counted, and how far their last losses are apart."""
    from slipway_trainer.step import startup

    startup.prepare_process()
    plain, engine = _plain(_module(shape, precision), precision), _engine(_module(shape, precision), precision)
    batches = _batches(VOCABULARY[shape])
    steps = {"plain": plain, "engine": engine}
    losses = {name: step(batches) for name, step in steps.items()}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(STEPS[shape]):
        # Who begins takes turns, too.
        for name in sorted(steps, reverse=bool(number % 2)):
            started = time.process_time()
            losses[name] = steps[name](batches)
            taken[name].append(time.process_time() - started)
    weights = sum(p.numel() for p in _module(shape, precision).parameters())
    apart = abs(losses["plain"] - losses["engine"])
    return {name: median(seconds) for name, seconds in taken.items()} | {"weights": weights, "apart": apart}


def _module(shape: str, precision: str) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from slipway_trainer.model import document_attention
    from slipway_trainer.model.next_token_loss import NextTokenLoss

    torch.manual_seed(0)
    config: dict[str, Any] = SHAPES[shape] | {"vocab_size": VOCABULARY[shape], "tie_word_embeddings": True}
    model: Any = LlamaForCausalLM(LlamaConfig(**config))
    if precision == "BF16":
        model.to(torch.bfloat16)
    document_attention.register()
    model.set_attn_implementation(document_attention.CALLS)
    return NextTokenLoss(model.train(), attention=document_attention.CALLS)


def _batches(vocabulary: int) -> list[Any]:
    import torch

    from slipway_trainer.batches.collate import Batch

    made: list[Batch] = []
    for _ in range(MICRO_BATCHES):
        tokens = torch.randint(0, vocabulary, (ROWS, LENGTH))
        places = torch.arange(ROWS * LENGTH).view(ROWS, LENGTH)[:, :-1].reshape(-1)
        positions = torch.arange(LENGTH).expand(ROWS, LENGTH)
        made.append(Batch(tokens, positions, places, tokens.view(-1)[places + 1], (LENGTH,) * ROWS))
    return made


def _engine(module: Any, precision: Any) -> Any:
    import torch

    from slipway_trainer.training import deepspeed_engine as engines
    from slipway_trainer.training import process_group
    from slipway_trainer.training.process_group import Ranks

    process_group.connect(Ranks())
    zero = 0 if precision == "FP32" else 1
    config = engines.configuration(
        precision=precision, zero_stage=zero, micro_batch=ROWS, max_grad_norm=1.0, world=1, device="cpu"
    )
    engine = engines.initialize(module, _optimizer(module.parameters()), config)
    clips = engines.owns_clipping(precision, zero)

    def step(batches: list[Any]) -> float:
        counted, total = sum(batch.counted for batch in batches), 0.0
        for index, batch in enumerate(batches):
            engine.set_gradient_accumulation_boundary(index == len(batches) - 1)
            loss = engine(batch)
            engine.backward(loss * (1 / counted), scale_wrt_gas=False)
            total += float(loss.detach())
        if clips:
            torch.nn.utils.clip_grad_norm_(engine.module.parameters(), 1.0)
        engine.step()
        return total / counted

    return step


def _plain(module: Any, precision: str) -> Any:
    import torch

    weights = list(module.parameters())
    masters = weights
    if precision == "BF16":
        masters = [weight.detach().float().requires_grad_() for weight in weights]
    optimizer = _optimizer(masters)

    def step(batches: list[Any]) -> float:
        counted, total = sum(batch.counted for batch in batches), 0.0
        for batch in batches:
            loss = module(batch)
            (loss * (1 / counted)).backward()
            total += float(loss.detach())
            if masters is not weights:
                _add_up(weights, masters)
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if masters is not weights:
            with torch.no_grad():
                for weight, master in zip(weights, masters, strict=True):
                    weight.copy_(master)
        return total / counted

    return step


def _add_up(weights: list[Any], masters: list[Any]) -> None:
    """Adds the gradients of a micro batch to those of the master weights, in float32."""
    for weight, master in zip(weights, masters, strict=True):
        master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
        weight.grad = None


def _optimizer(weights: Any) -> Any:
    import torch

    return torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)


if __name__ == "__main__":
    main()
