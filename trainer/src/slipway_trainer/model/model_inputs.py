"""What a model is called with to compute a batch, by the attention that it has."""

from __future__ import annotations

from typing import Any

import torch

from slipway_trainer.batches.collate import Batch
from slipway_trainer.model import document_attention

BY_ROWS = ("sdpa", "eager")
"""Attentions that tell the documents of a row apart by a mask."""


def model_inputs(batch: Batch, *, attention: str, packed: bool) -> dict[str, Any]:
    """Returns what a model is called with.

    The positions of a row that is one document are left to the model: not every one takes them, and some count them
    another way. Padding stands at the end of such a row, where a causal model does not see it.
    """
    tokens, positions, lengths = batch.input_ids, batch.position_ids, batch.lengths
    if not packed:
        if attention not in document_attention.NAMES:
            return {"input_ids": tokens, "use_cache": False}
        rows, width = tokens.shape
        positions, lengths = torch.arange(width, device=tokens.device).expand_as(tokens), (width,) * rows
    if attention in BY_ROWS:
        return {"input_ids": tokens, "position_ids": positions, "use_cache": False}
    # One row of all documents. A mask would pay for the square of its length.
    return {
        "input_ids": tokens.reshape(1, -1),
        "position_ids": positions.reshape(1, -1),
        "use_cache": False,
        **document_attention.told(lengths, attention, tokens.device),
    }
