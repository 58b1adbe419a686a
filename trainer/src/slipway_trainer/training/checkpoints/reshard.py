"""Optimizer states of DeepSpeed: into an engine that is cut as they are, or cut anew for another one.

Another engine has another number of processes, another ZeRO stage, or both. What it needs is read weight by weight from
wherever the old ranks had it (`pieces`), and no rank has more in its memory than it will hold.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from slipway_trainer.training.checkpoints import pieces
from slipway_trainer.training.checkpoints.pieces import Piece
from slipway_trainer.training.process_group import Ranks

_MASTER = "master"
"""The name here of the float32 weights that an optimizer steps, beside the moments' own."""
_STEP = "step"
"""Of an optimizer's state: one number for all weights that are stepped together, and no moment."""
_OF_MASTERS = ("single_partition_of_fp32_groups", "fp32_flat_groups", "fp32_groups")
"""Where the wrappers of ZeRO 1 and 2, of ZeRO-3, and without ZeRO in half precision have the float32 weights. In
float32 without ZeRO there is no wrapper, and the weights are those of the model."""
_OF_OPTIMIZER = ("base_optimizer_state", "optimizer_state_dict")
"""Where wrappers have the state of the optimizer itself."""
_SCALING = ("loss_scaler", "dynamic_loss_scale", "overflow")


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
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer.load_state_dict(listed, load_optimizer_states=True, load_from_fp32_weights=True)


def is_divisible(part: dict[str, Any]) -> bool:
    """Returns whether one rank's state can be put together with others and cut anew.

    The blocks of AdamW8bit cannot: a scale belongs to 256 weights of a piece, and those of another begin elsewhere.
    """
    states = _base(part)["state"].values()
    return not any(isinstance(held, dict) for state in states for held in state.values())


def groups_of(engine: Any) -> list[list[nn.Parameter]]:
    """Returns the weights that an engine trains, by parameter group, in the order of its optimizer."""
    optimizer = engine.optimizer
    if hasattr(optimizer, "sub_group_to_group_id"):
        groups: list[list[nn.Parameter]] = [[] for _ in optimizer.param_groups]
        for sub_group, weights in enumerate(optimizer.fp16_groups):
            groups[optimizer.sub_group_to_group_id[sub_group]] += weights
        return groups
    named = next((name for name in ("bit16_groups", "bf16_groups", "fp16_groups") if hasattr(optimizer, name)), None)
    return getattr(optimizer, named) if named else [group["params"] for group in optimizer.param_groups]


def _buffers(engine: Any) -> list[torch.Tensor]:
    """Returns what this rank's optimizer steps, with padding."""
    attributes = ("single_partition_of_fp32_groups", "fp32_groups_flat_partition", "fp32_partitioned_groups_flat")
    named = next((name for name in (*attributes, "fp32_groups") if hasattr(engine.optimizer, name)), None)
    if named is not None:
        return list(_flat(getattr(engine.optimizer, named)))
    return [weight for group in groups_of(engine) for weight in group]


def numel(weight: nn.Parameter) -> int:
    """Returns the elements of a weight, of which this rank may hold a part alone."""
    return getattr(weight, "ds_numel", weight.numel())


@dataclass(frozen=True)
class _Held:
    """What one rank has: its buffers, flat."""

    masters: list[torch.Tensor] | None
    """None where the weights themselves are stepped."""
    states: Mapping[int, dict[str, Any]]
    """Of the optimizer, by buffer."""

    @classmethod
    def of(cls, state: dict[str, Any]) -> _Held:
        named = _name_of_masters(state)
        masters = None if named is None else list(_flat(state[named]))
        return cls(masters, _base(state)["state"])

    def tensor(self, name: str, buffer: int) -> torch.Tensor | None:
        if name == _MASTER:
            return None if self.masters is None else self.masters[buffer].reshape(-1)
        found = self.states.get(buffer, {}).get(name)
        return found.reshape(-1) if isinstance(found, torch.Tensor) else None

    def sizes(self, shapes: Sequence[int]) -> list[int]:
        """Returns the elements of each buffer, with its padding: that of moments, since master weights may be saved
        without.

        Args:
            shapes: elements of each weight, which are the buffers of a state without master weights.
        """
        if self.masters is None:
            return list(shapes)
        return [
            max([master.numel(), *(tensor.numel() for tensor in _moments(self.states.get(buffer, {})).values())])
            for buffer, master in enumerate(self.masters)
        ]


class Saved:
    """The optimizer of a checkpoint, as weights of which any elements can be read."""

    def __init__(
        self,
        parts: Sequence[dict[str, Any]],
        zero_stage: int,
        groups: Sequence[Sequence[int]],
        weights: Sequence[torch.Tensor] | None,
    ) -> None:
        """
        Args:
            parts: the optimizer states of all old ranks, in their order; without ZeRO that of rank 0 alone. Mapped
                files will do: only what is asked for is read.
            groups: elements of each weight, by parameter group.
            weights: in the optimizer's order; needed where a state has no float32 weights of its own.

        Raises ValueError when they are states of other weights.
        """
        self._held = [_Held.of(part) for part in parts]
        self._weights = weights
        self._places: list[list[tuple[int, Piece]]] = [[] for group in groups for _ in group]
        """By weight: who has which piece of it."""
        sizes = self._held[0].sizes([size for group in groups for size in group])
        for rank in range(len(parts)):
            for piece in pieces.of_rank(zero_stage, groups, sizes, rank=rank, world=len(parts)):
                self._places[piece.weight].append((rank, piece))

    def moments(self, weight: int) -> list[str]:
        """Returns the names of the moments of a weight; none where no step was taken of it."""
        rank, piece = self._places[weight][0]
        return list(_moments(self._held[rank].states.get(piece.buffer, {})))

    def step(self, weight: int) -> Any:
        """Returns how many steps were taken of a weight, as its optimizer counts them; None where that is nowhere."""
        rank, piece = self._places[weight][0]
        found = self._held[rank].states.get(piece.buffer, {}).get(_STEP)
        return found.clone() if isinstance(found, torch.Tensor) else found

    def read(self, name: str, weight: int, start: int, out: torch.Tensor) -> None:
        """Copies elements of a moment, or of the float32 weights, from `start` on into `out` [length]; where the
        weight has no such moment, `out` stays as it is."""
        if name == _MASTER and self._held[0].masters is None:
            assert self._weights is not None
            out.copy_(self._weights[weight].reshape(-1)[start : start + out.numel()])
            return
        for rank, piece in self._places[weight]:
            low, high = max(start, piece.start), min(start + out.numel(), piece.start + piece.length)
            tensor = self._held[rank].tensor(name, piece.buffer)
            if low < high and tensor is not None:
                at = piece.offset + low - piece.start
                out[low - start : high - start].copy_(tensor[at : at + high - low])

    def weight(self, number: int, like: nn.Parameter) -> torch.Tensor:
        """Returns a whole weight in float32, with the shape of its parameter."""
        whole = torch.empty(like.numel())
        self.read(_MASTER, number, 0, whole)
        return whole.view(like.shape)


def for_rank(saved: Saved, template: dict[str, Any], mine: Sequence[Piece], shapes: Sequence[torch.Size]) -> Any:
    """Returns the state of one rank of another engine, as its `state_dict` gives it.

    Args:
        template: its state as it is, of which everything that belongs to no weight is kept.
        mine: what of the weights it has.
        shapes: of its buffers.
    """
    by_buffer: dict[int, list[Piece]] = {number: [] for number in range(len(shapes))}
    for piece in mine:
        by_buffer[piece.buffer].append(piece)
    states: dict[int, dict[str, Any]] = {}
    for buffer, parts in by_buffer.items():
        names = dict.fromkeys(name for piece in parts for name in saved.moments(piece.weight))
        states[buffer] = {name: _filled(saved, name, parts, shapes[buffer]) for name in names}
        steps = [step for piece in parts if (step := saved.step(piece.weight)) is not None]
        if steps:
            # Weights of a buffer are stepped together; one that has had no gradient for some steps lags behind.
            states[buffer][_STEP] = max(steps)
    named = _name_of_base(template)
    base = _base(template) | {"state": {buffer: state for buffer, state in states.items() if state}}
    state = template | ({named: base} if named else base)
    masters = _name_of_masters(template)
    if masters is not None:
        flat = [_filled(saved, _MASTER, by_buffer[buffer], shape) for buffer, shape in enumerate(shapes)]
        state[masters] = _nested(flat, template[masters])
    return state


def take_over(engine: Any, saved: Saved, parts: Sequence[dict[str, Any]], ranks: Ranks) -> None:
    """Puts the optimizer of another engine into this one, cut anew for it.

    Raises ValueError when this engine holds other weights.
    """
    template = engine.optimizer.state_dict()
    template |= {name: parts[0][name] for name in _SCALING if name in template and name in parts[0]}
    groups = groups_of(engine)
    sizes = [[numel(weight) for weight in group] for group in groups]
    shapes = [buffer.shape for buffer in _buffers(engine)]
    mine = pieces.of_rank(
        engine.zero_optimization_stage(),
        sizes,
        [shape.numel() for shape in shapes],
        rank=ranks.rank,
        world=ranks.world,
    )
    load(engine, for_rank(saved, template, mine, shapes), ranks)


def _filled(saved: Saved, name: str, parts: Sequence[Piece], shape: torch.Size) -> torch.Tensor:
    """Returns a buffer of float32 with the elements of a moment, or of the weights; padding is 0."""
    flat = torch.zeros(shape.numel())
    for piece in parts:
        saved.read(name, piece.weight, piece.start, flat[piece.offset : piece.offset + piece.length])
    return flat.view(shape)


def _nested(flat: list[torch.Tensor], like: Sequence[Any]) -> list[Any]:
    """Returns tensors in the lists in which a state has them: in half precision without ZeRO, one a group."""
    if not like or isinstance(like[0], torch.Tensor):
        return flat
    rest = iter(flat)
    return [[next(rest) for _ in group] for group in like]


def _moments(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name != _STEP and isinstance(value, torch.Tensor)}


def _flat(tensors: Iterable[Any]) -> Iterator[torch.Tensor]:
    for item in tensors:
        yield from [item] if isinstance(item, torch.Tensor) else item


def _name_of_masters(state: dict[str, Any]) -> str | None:
    return next((name for name in _OF_MASTERS if name in state), None)


def _name_of_base(state: dict[str, Any]) -> str | None:
    """Returns where a state has that of the optimizer itself; None where it is that."""
    return next((name for name in _OF_OPTIMIZER if name in state), None)


def _base(state: dict[str, Any]) -> dict[str, Any]:
    named = _name_of_base(state)
    return state[named] if named else state
