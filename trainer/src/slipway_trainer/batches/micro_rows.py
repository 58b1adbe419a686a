"""Which documents go through the model at once: packed rows, or rows of one document for a model that cannot keep the
documents of a row apart.

Either way a step learns the same documents; only how they are computed differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slipway_trainer.batches import collate
from slipway_trainer.batches.packing import Bins


def of_rank(
    bins: Bins, lengths: np.ndarray, *, rank: int, world: int, micro_batch: int, max_length: int, packed: bool
) -> list[Bins]:
    """Returns the micro batches of one rank, in the order in which it computes them.

    All ranks have as many, with empty ones at the end: a forward pass can be something that all do together.

    Args:
        bins: packed rows, of which a rank has every `world`-th.
        lengths: tokens of every document, at most `max_length`.
        micro_batch: packed rows that fit into the memory at once.
    """
    of_ranks = [
        _cut(bins, range(other, len(bins), world), lengths, micro_batch, max_length, packed) for other in range(world)
    ]
    most = max(len(batches) for batches in of_ranks)
    return of_ranks[rank] + [Bins.empty()] * (most - len(of_ranks[rank]))


def _cut(
    bins: Bins, rows: Sequence[int], lengths: np.ndarray, micro_batch: int, max_length: int, packed: bool
) -> list[Bins]:
    chosen = bins.take(np.array(rows, np.int64))
    if packed:
        count = len(chosen)
        return [chosen.take(np.arange(at, min(at + micro_batch, count))) for at in range(0, count, micro_batch)]
    # The longest first: rows of like lengths are together, and few of their tokens are padding.
    documents = chosen.documents[np.argsort(-np.asarray(lengths)[chosen.documents], kind="stable")]
    batches: list[Bins] = []
    start = 0
    while start < len(documents):
        width = collate.columns(int(lengths[documents[start]]), max_length)
        together = documents[start : start + max(1, micro_batch * max_length // width)]
        batches.append(Bins(np.arange(len(together) + 1), together))
        start += len(together)
    return batches
