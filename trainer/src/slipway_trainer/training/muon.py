"""Muon for matrices and AdamW for the rest, as one optimizer that DeepSpeed can cut into pieces.

Muon (Jordan et al. 2024) steps along the momentum of a whole matrix with all its singular values made one. ZeRO 1 and
2 lay the matrices end to end and give each rank an equal piece of all, so that a matrix may lie on several ranks.
Momentum is kept by the piece. What a rank has not of a matrix that it has a part of is fetched from its neighbours in
every step, in the type in which it is made orthogonal. The gradient is clipped before, as for AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration: singular values end between 0.7 and 1.2 after 5 rounds (Jordan et al. 2024)."""
_ROUNDS = 5
_SMALLEST_NORM = 1e-7
_RMS = 0.2
"""Of a step before the rate: as of AdamW's steps, so that one rate and decay serve both (Liu et al. 2025, 2.2)."""


class Muon(torch.optim.Optimizer):
    """Muon for one group of matrices and AdamW for any others, at one learning rate."""

    def __init__(
        self,
        matrices: dict[str, Any],
        rest: list[dict[str, Any]],
        *,
        momentum: float,
        computed_in: torch.dtype,
        **adamw: Any,
    ) -> None:
        """
        Args:
            matrices: group of weights [rows, columns]; without weights it is left out.
            rest: groups that go by AdamW.
            computed_in: what matrices are made orthogonal in.
            adamw: what torch's AdamW is made with, but for the rate, which is 0 until somebody sets it.
        """
        self._computed_in = computed_in
        self._rest = torch.optim.AdamW(rest, lr=0.0, **adamw) if rest else None
        shapes = [tuple(weight.shape) for weight in matrices["params"]]
        own = [{"momentum": momentum, "shapes": shapes, **matrices}] if shapes else []
        super().__init__([*own, *(self._rest.param_groups if self._rest else [])], {"lr": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Takes a step; one without a gradient leaves a weight as it is."""
        if closure is not None:
            raise ValueError("Muon computes no loss of its own")
        for group in self.param_groups:
            if "shapes" in group:
                for weight, place in _places(group):
                    if weight.grad is not None:
                        self._step(weight, place, group)
        if self._rest is not None:
            # Loading a state puts others in their place.
            self._rest.param_groups = [group for group in self.param_groups if "shapes" not in group]
            self._rest.state = self.state
            self._rest.step()

    def _step(self, weight: nn.Parameter, place: _Place, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
        # Nesterov's.
        step = weight.grad.lerp(momentum, group["momentum"]).flatten().to(self._computed_in)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        flat = weight.view(-1)
        for part, matrix in place.whole_matrices(step):
            rate = group["lr"] * _RMS * math.sqrt(max(part.shape))
            flat[part.mine].add_(orthogonal(matrix).flatten()[part.of_matrix], alpha=-rate)


@dataclass(frozen=True)
class _Part:
    """What a rank has of a matrix."""

    index: int
    """Of the matrix."""
    shape: tuple[int, int]
    mine: slice
    """Where it is in the rank's piece."""
    of_matrix: slice
    """Where it is in the matrix."""

    @property
    def is_whole(self) -> bool:
        return self.of_matrix == slice(0, math.prod(self.shape))


@dataclass(frozen=True)
class _Place:
    """Which part of some matrices, laid end to end, one of several equal pieces of them is."""

    shapes: list[tuple[int, int]]
    size: int
    """Weights of a piece; of the last one some may be padding."""
    rank: int
    world: int

    def parts(self, rank: int) -> list[_Part]:
        """Returns what a rank has of the matrices, in their order."""
        found: list[_Part] = []
        first, last = rank * self.size, (rank + 1) * self.size
        start = 0
        for index, shape in enumerate(self.shapes):
            end = start + math.prod(shape)
            low, high = max(start, first), min(end, last)
            if low < high:
                mine, of_matrix = slice(low - first, high - first), slice(low - start, high - start)
                found.append(_Part(index, shape, mine, of_matrix))
            start = end
        return found

    def whole_matrices(self, piece: torch.Tensor) -> list[tuple[_Part, torch.Tensor]]:
        """Returns every matrix [rows, columns] of which this rank has a part, with that part.

        Collective among ranks that share a matrix.

        Args:
            piece: this rank's [size].
        """
        parts = self.parts(self.rank)
        shared = {part.index: piece.new_empty(math.prod(part.shape)) for part in parts if not part.is_whole}
        self._exchange(piece, parts, shared)
        return [(part, shared.get(part.index, piece[part.mine]).view(part.shape)) for part in parts]

    def _exchange(self, piece: torch.Tensor, parts: list[_Part], shared: dict[int, torch.Tensor]) -> None:
        """Fills the shared matrices from the pieces of all who have a part of one."""
        mine = {part.index: part for part in parts if part.index in shared}
        for index, part in mine.items():
            shared[index][part.of_matrix] = piece[part.mine]
        calls: list[distributed.P2POp] = []
        # A matrix lies on ranks in a row: beyond the first that shares none, nobody does.
        for others in (range(self.rank - 1, -1, -1), range(self.rank + 1, self.world)):
            for other in others:
                theirs = [part for part in self.parts(other) if part.index in mine]
                if not theirs:
                    break
                for part in theirs:
                    calls += [
                        distributed.P2POp(distributed.isend, piece[mine[part.index].mine], other),
                        distributed.P2POp(distributed.irecv, shared[part.index][part.of_matrix], other),
                    ]
        if calls:
            for call in distributed.batch_isend_irecv(calls):
                call.wait()


def _places(group: dict[str, Any]) -> list[tuple[nn.Parameter, _Place]]:
    """Returns each weight of a group with its place: a matrix by itself, or the piece that ZeRO made of all of them."""
    weights, shapes = group["params"], [tuple(shape) for shape in group["shapes"]]
    if len(weights) == 1 and weights[0].ndim == 1:
        rank, world = distributed.get_rank(), distributed.get_world_size()
        return [(weights[0], _Place(shapes, weights[0].numel(), rank, world))]
    return [(w, _Place([s], w.numel(), 0, 1)) for w, s in zip(weights, shapes, strict=True)]


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Returns about the nearest matrix whose singular values are one, for any [rows, columns], in the same type.

    By five rounds of Newton and Schulz's iteration on the shorter side, of a matrix whose norm is one at most.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / found.norm().clamp(min=_SMALLEST_NORM)
    a, b, c = _POLYNOMIAL
    for _ in range(_ROUNDS):
        square = found @ found.T
        found = torch.addmm(found, torch.addmm(square, square, square, beta=b, alpha=c), found, beta=a)
    return found.T if tall else found
