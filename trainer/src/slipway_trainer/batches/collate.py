"""From packed rows to what the model is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from slipway_trainer.batches.packing import Bins
from slipway_trainer.batches.shards import Shards

WIDTH_STEP = 8


@dataclass(frozen=True)
class Batch:
    """Rows of documents, and all that a device would otherwise have to be asked: to ask it, a step would wait for it.

    Positions restart with every document and there is no attention mask: that is how transformers tells documents of
    a row apart, while a mask of ones lets them see each other. The padding at the right of a row is a document of its
    own.
    """

    input_ids: torch.Tensor
    """int64 [rows, width]."""
    position_ids: torch.Tensor
    """int64 [rows, width]."""
    predicting: torch.Tensor
    """int64 [targets]: the places, in all rows end to end, whose next token is learned."""
    targets: torch.Tensor
    """int64 [targets]: that token."""
    lengths: tuple[int, ...]
    """Of each document in all rows end to end, padding among them: rows × width tokens together."""

    @classmethod
    def of_documents(cls, documents: Sequence[torch.Tensor]) -> Batch:
        """Returns one row of documents int64 [tokens] of which nothing is learned, on their device."""
        positions = [torch.arange(len(document), device=document.device) for document in documents]
        nothing = torch.empty(0, dtype=torch.int64)
        row, places = torch.cat(list(documents))[None], torch.cat(positions)[None]
        return cls(row, places, nothing, nothing, tuple(len(document) for document in documents))

    def to(self, device: torch.device) -> Batch:
        """Returns the same on a device; on the way to a GPU nothing waits, where the memory is pinned."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        return replace(self, **moved)

    def pinned(self) -> Batch:
        """Returns the same in memory that a GPU reads by itself."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in _TENSORS})


_TENSORS = ("input_ids", "position_ids", "predicting", "targets")


def columns(longest: int, max_length: int) -> int:
    """Returns the width of a batch whose longest row has so many tokens."""
    return min(-(-longest // WIDTH_STEP) * WIDTH_STEP, max_length)


def batch(
    shards: Shards, bins: Bins, rows: Sequence[int], *, max_length: int, pad_id: int, width: int | None = None
) -> Batch:
    """Returns rows of documents.

    Learned is what the documents say is, but the first token of each, which nothing in it predicts. Without rows it is
    a row that teaches nothing: a rank that has none left goes through the model with the others.

    Args:
        width: of the rows; the longest one rounded up to 8 when left out.

    Raises ValueError when a row is longer.
    """
    if not rows:
        return _empty(width or WIDTH_STEP, pad_id)
    documents = [bins.row(row) for row in rows]
    longest = max((int(shards.lengths[row].sum()) for row in documents), default=0)
    width = width or columns(longest, max_length)
    if longest > width:
        raise ValueError(f"a row of {longest} tokens does not fit into {width}")
    inputs = np.full((len(rows), width), pad_id, np.int64)
    positions = np.zeros((len(rows), width), np.int64)
    predicting = np.zeros((len(rows), width), bool)
    lengths: list[int] = []
    count = np.arange(width)
    for row, row_documents in enumerate(documents):
        end = 0
        for document in row_documents:
            tokens, learn = shards.document(int(document))
            start, end = end, end + len(tokens)
            inputs[row, start:end] = tokens
            positions[row, start:end] = count[: len(tokens)]
            predicting[row, start : end - 1] = learn[1:]
            lengths.append(len(tokens))
        if end < width:
            positions[row, end:] = count[: width - end]
            lengths.append(width - end)
    places = np.flatnonzero(predicting)
    return Batch(
        input_ids=torch.from_numpy(inputs),
        position_ids=torch.from_numpy(positions),
        predicting=torch.from_numpy(places),
        targets=torch.from_numpy(inputs.reshape(-1)[places + 1]),
        lengths=tuple(lengths),
    )


def _empty(width: int, pad_id: int) -> Batch:
    return Batch.of_documents([torch.full((width,), pad_id)])
