"""Optimizer states of DeepSpeed: into an engine of the same size, or divided anew for another number of processes.

ZeRO 1 and 2 lay all weights of a parameter group end to end and give every rank an equal piece, the last one padded.
So the pieces of one world, put together and cut again, are those of another. ZeRO-3 cuts each weight by itself and is
not divided anew.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from slipway_trainer.training.process_group import Ranks

_BASE = "base_optimizer_state"
_PIECES = "single_partition_of_fp32_groups"


def load(engine: Any, state: dict[str, Any], ranks: Ranks) -> None:
    """Puts one rank's optimizer state into its engine."""
    optimizer = engine.optimizer
    stage = engine.zero_optimization_stage()
    if stage == 0:
        optimizer.load_state_dict(state)
        return
    # DeepSpeed looks up its own rank in the list of all ranks.
    listed: list[Any] = [None] * ranks.world
    listed[ranks.rank] = state
    if stage == 3:
        optimizer.checkpoint_event_prologue()
        optimizer.load_state_dict(listed, load_optimizer_states=True)
        optimizer.checkpoint_event_epilogue()
        return
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()):
        optimizer.load_state_dict(listed, load_optimizer_states=True, load_from_fp32_weights=True)


def is_divisible(part: dict[str, Any]) -> bool:
    """Returns whether one rank's state can be put together with others and cut anew (ZeRO 1 and 2).

    The blocks of AdamW8bit cannot: a scale belongs to 256 weights of a piece, and those of another begin elsewhere.
    """
    return not any(isinstance(held, dict) for state in part[_BASE]["state"].values() for held in state.values())


def for_rank(parts: list[dict[str, Any]], optimizer: Any, rank: int) -> dict[str, Any]:
    """Returns the state of one rank of another world, from those of all ranks of the old one (ZeRO 1 and 2).

    Args:
        parts: states as `state_dict` of the optimizer gave them, in the order of the old ranks.
        optimizer: DeepSpeed's of the new engine; its pieces say how large they are now.
    """
    state = copy.copy(parts[0])
    sizes = [piece.numel() for piece in _pieces(optimizer)]
    # The master weights are saved without their padding, so together they are as long as the group itself.
    wholes = [torch.cat([part[_PIECES][group].reshape(-1) for part in parts]) for group in range(len(sizes))]
    totals = [_total(optimizer, group) for group in range(len(sizes))]
    state[_PIECES] = [_cut(whole, total, size, rank) for whole, total, size in zip(wholes, totals, sizes, strict=True)]
    base = copy.copy(parts[0][_BASE])
    base["state"] = {
        group: {
            name: _cut(
                torch.cat([part[_BASE]["state"][group][name].reshape(-1) for part in parts]),
                totals[group],
                sizes[group],
                rank,
            )
            if isinstance(value, torch.Tensor) and value.numel() > 1
            else value
            for name, value in parts[0][_BASE]["state"][group].items()
        }
        for group in parts[0][_BASE]["state"]
    }
    state[_BASE] = base
    return state


def _pieces(optimizer: Any) -> list[torch.Tensor]:
    for name in ("single_partition_of_fp32_groups", "fp32_groups_flat_partition"):
        if hasattr(optimizer, name):
            return getattr(optimizer, name)
    raise TypeError(f"{type(optimizer).__name__} is no optimizer of ZeRO 1 or 2")


def _total(optimizer: Any, group: int) -> int:
    """Returns the number of weights of a group, without padding."""
    for name in ("round_robin_bit16_groups", "bf16_groups"):
        if hasattr(optimizer, name):
            return sum(weight.numel() for weight in getattr(optimizer, name)[group])
    raise TypeError(f"{type(optimizer).__name__} is no optimizer of ZeRO 1 or 2")


def _cut(whole: torch.Tensor, total: int, size: int, rank: int) -> torch.Tensor:
    piece = whole[:total][rank * size : (rank + 1) * size]
    return torch.nn.functional.pad(piece, (0, size - piece.numel())).clone()
