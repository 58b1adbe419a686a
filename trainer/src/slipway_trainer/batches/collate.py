"""From packed rows to what the model is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from slipway_trainer.batches.packing import Bins
from slipway_trainer.batches.shards import Shards

IGNORED = -100
"""Label of a token that is not learned; torch's cross entropy leaves it out."""
WIDTH_STEP = 8


def columns(longest: int, max_length: int) -> int:
    """Returns the width of a batch whose longest row has so many tokens."""
    return min(-(-longest // WIDTH_STEP) * WIDTH_STEP, max_length)


def batch(shards: Shards, bins: Bins, rows: Sequence[int], *, max_length: int, pad_id: int) -> dict[str, torch.Tensor]:
    """Returns input_ids, position_ids and labels, int64 [rows, width]; width is the longest row rounded up to 8.

    Positions restart with every document and there is no attention mask: that is how transformers tells documents of
    a row apart, while a mask of ones lets them see each other. Labels are the input itself (the model shifts them),
    and IGNORED where nothing is to be learned: the first token of each document, which nothing in it predicts, tokens
    that are not learned, and the padding at the right, which is a document of its own.

    Without rows it is a row that teaches nothing: a rank that has none left goes through the model with the others.
    """
    if not rows:
        return _empty(pad_id)
    documents = [bins.row(row) for row in rows]
    longest = max((int(shards.lengths[row].sum()) for row in documents), default=0)
    width = columns(longest, max_length)
    if longest > width:
        raise ValueError(f"a row of {longest} tokens does not fit into {max_length}")
    inputs = np.full((len(rows), width), pad_id, np.int64)
    positions = np.zeros((len(rows), width), np.int64)
    labels = np.full((len(rows), width), IGNORED, np.int64)
    count = np.arange(width)
    for row, row_documents in enumerate(documents):
        end = 0
        for document in row_documents:
            tokens, learn = shards.document(int(document))
            start, end = end, end + len(tokens)
            inputs[row, start:end] = tokens
            positions[row, start:end] = count[: len(tokens)]
            # Not np.where: in the unsigned type of the tokens, IGNORED would be another number.
            labels[row, start + 1 : end][learn[1:]] = tokens[1:][learn[1:]]
        positions[row, end:] = count[: width - end]
    return {
        "input_ids": torch.from_numpy(inputs),
        "position_ids": torch.from_numpy(positions),
        "labels": torch.from_numpy(labels),
    }


def _empty(pad_id: int) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.full((1, WIDTH_STEP), pad_id),
        "position_ids": torch.arange(WIDTH_STEP).unsqueeze(0),
        "labels": torch.full((1, WIDTH_STEP), IGNORED),
    }
