"""How much memory the loss of the output layer takes, and how long, beside all logits at once.

    .venv/bin/python -m bench.output_loss [--vocabulary 152000] [--hidden 256] [--tokens 512,4096]

Forward and backward pass through an output layer and the cross entropy, in float32, each in a process of its own: the
peak of memory above what it was before, and CPU-seconds. `torch` is `torch.nn.functional.linear_cross_entropy`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional

from slipway_trainer.model.output_loss import OutputLoss

CONTENDERS = ("all logits", "torch", "slipway")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=152_000)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--tokens", default="512,4096")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print("RESULT " + json.dumps(measure(options.child, options.vocabulary, options.hidden, int(options.tokens))))
        return
    print(f"{options.vocabulary:,} words, {options.hidden} wide, float32")
    print("\n| tokens | loss | peak above the layer, MiB | CPU-seconds |\n|---|---|---|---|")
    for tokens in options.tokens.split(","):
        for contender in CONTENDERS:
            size = ["--vocabulary", str(options.vocabulary), "--hidden", str(options.hidden), "--tokens", tokens]
            command = [sys.executable, "-m", "bench.output_loss", "--child", contender, *size]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.rsplit("RESULT ", 1)[1])
            print(f"| {int(tokens):,} | {contender} | {found['peak']:,.0f} | {found['seconds']:.1f} |", flush=True)


def measure(contender: str, vocabulary: int, hidden: int, tokens: int) -> dict[str, float]:
    layer = nn.Linear(hidden, vocabulary, bias=False)
    states = torch.randn(1, tokens, hidden, requires_grad=True)
    targets = torch.randint(vocabulary, (tokens,))
    before, started = peak(), time.process_time()
    if contender == "slipway":
        loss = OutputLoss(layer, None).of(lambda: layer(states), torch.arange(tokens), targets)
    elif contender == "torch":
        loss = functional.linear_cross_entropy(states[0], layer.weight, targets, reduction="sum")
    else:
        loss = functional.cross_entropy(layer(states)[0], targets, reduction="sum")
    loss.backward()
    return {"peak": peak() - before, "seconds": time.process_time() - started}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
