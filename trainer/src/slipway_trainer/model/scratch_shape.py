"""Sizes of a new model that are told from others."""

from __future__ import annotations

from slipway_core.resources.model import Scratch

VOCABULARY_STEP = 64
"""Rows of an embedding are a multiple of it: matrix products are slow on odd sizes."""


def rounded(ids: int) -> int:
    """Returns the rows of the embedding for a tokenizer of that many ids."""
    return -(-ids // VOCABULARY_STEP) * VOCABULARY_STEP


def intermediate_size(scratch: Scratch) -> int:
    return scratch.intermediate_size or -(-scratch.hidden_size * 8 // 3 // 32) * 32
