"""Steps of Muon on one of several equal pieces of some matrices: `python muon_ranks.py RANK WORLD STORE FOLDER`."""

import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn import functional

from slipway_trainer.training.muon import Muon

SHAPES = [(8, 5), (40, 12), (6, 6)]
STEPS = 3


def numbers(seed: int) -> list[torch.Tensor]:
    """Weights, or gradients of a step; the same on every rank."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def muon(matrices: list[nn.Parameter]) -> Muon:
    return Muon({"params": matrices, "weight_decay": 0.1}, [], momentum=0.9, computed_in=torch.float32)


def main(rank: int, world: int, store: str, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    optimizer = muon([nn.Parameter(weight) for weight in numbers(0)])
    piece = nn.Parameter(cut(numbers(0), rank, world))
    # As ZeRO does.
    optimizer.param_groups[0]["params"] = [piece]
    for step in range(1, STEPS + 1):
        piece.grad = cut(numbers(step), rank, world)
        optimizer.param_groups[0]["lr"] = 0.01 * step
        optimizer.step()
    torch.save(piece.detach(), Path(folder) / f"{rank}.pt")


def cut(matrices: list[torch.Tensor], rank: int, world: int) -> torch.Tensor:
    whole = torch.cat([matrix.flatten() for matrix in matrices])
    size = -(-len(whole) // world)
    return functional.pad(whole, (0, size * world - len(whole)))[rank * size : (rank + 1) * size].clone()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
