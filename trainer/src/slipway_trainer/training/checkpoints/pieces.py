"""Where the weights of an optimizer lie in the pieces that a rank holds, under every ZeRO stage.

A rank's state is some flat buffers. Without ZeRO each is one weight. ZeRO 1 and 2 lay all weights of a parameter group
end to end and give every rank an equal piece, the last ones padded. ZeRO-3 cuts each weight by itself into equal parts,
the last ones padded, and lays its parts end to end. All of them number the weights alike: in the optimizer's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Piece:
    """Elements of one weight that lie one after the other in one buffer of a rank."""

    buffer: int
    offset: int
    """Of the first one in the buffer."""
    weight: int
    """Its number among all weights, over all groups."""
    start: int
    """Number of the first one in the weight."""
    length: int


def of_rank(
    zero_stage: int, groups: Sequence[Sequence[int]], buffers: Sequence[int], *, rank: int, world: int
) -> list[Piece]:
    """Returns what a rank has, without padding.

    Args:
        groups: elements of each weight, by parameter group.
        buffers: elements of each of the rank's buffers, with their padding.

    Raises ValueError when buffers of that size are not those of these weights.
    """
    if zero_stage == 0:
        return _whole(groups, buffers)
    if zero_stage in (1, 2):
        return _end_to_end(groups, buffers, rank, world)
    return _each_by_itself(groups, buffers, rank, world)


def _whole(groups: Sequence[Sequence[int]], buffers: Sequence[int]) -> list[Piece]:
    sizes = [size for group in groups for size in group]
    if list(buffers) != sizes:
        raise ValueError(f"{len(buffers)} weights of {sum(buffers)} elements are not the {len(sizes)} of {sum(sizes)}")
    return [Piece(number, 0, number, 0, size) for number, size in enumerate(sizes)]


def _end_to_end(groups: Sequence[Sequence[int]], buffers: Sequence[int], rank: int, world: int) -> list[Piece]:
    if len(buffers) != len(groups) or any(
        size * world < sum(group) for size, group in zip(buffers, groups, strict=False)
    ):
        raise ValueError(f"pieces of {list(buffers)} in {world} ranks do not hold {[sum(group) for group in groups]}")
    found: list[Piece] = []
    weight = 0
    for buffer, (size, group) in enumerate(zip(buffers, groups, strict=True)):
        first, end = rank * size, (rank + 1) * size
        for begins, numel in zip(accumulate(group, initial=0), group, strict=False):
            low, high = max(begins, first), min(begins + numel, end)
            if low < high:
                found.append(Piece(buffer, low - first, weight, low - begins, high - low))
            weight += 1
    return found


def _each_by_itself(groups: Sequence[Sequence[int]], buffers: Sequence[int], rank: int, world: int) -> list[Piece]:
    sizes = [size for group in groups for size in group]
    found: list[Piece] = []
    buffer = offset = 0
    for weight, numel in enumerate(sizes):
        # A group whose weights are many has several buffers, each of whole parts.
        if buffer < len(buffers) and offset == buffers[buffer]:
            buffer, offset = buffer + 1, 0
        part = -(-numel // world)
        if buffer == len(buffers) or offset + part > buffers[buffer]:
            raise ValueError(f"parts of {list(buffers)} in {world} ranks are not those of {sum(sizes)} elements")
        length = min(part, numel - rank * part)
        if length > 0:
            found.append(Piece(buffer, offset, weight, rank * part, length))
        offset += part
    if buffers and (buffer != len(buffers) - 1 or offset != buffers[buffer]):
        raise ValueError(f"parts of {list(buffers)} in {world} ranks are more than those of {sum(sizes)} elements")
    return found
