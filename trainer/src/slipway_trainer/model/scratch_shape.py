"""The sizes of a new model, told from what is asked for: without torch, whose import takes seconds."""

from __future__ import annotations

from slipway_core.plan import Plan
from slipway_core.resources.model import Scratch

VOCABULARY_STEP = 64
"""Rows of an embedding are a multiple of it: matrix products are slow on odd sizes."""


def rounded(ids: int) -> int:
    """Returns the rows of the embedding for a tokenizer of that many ids."""
    return -(-ids // VOCABULARY_STEP) * VOCABULARY_STEP


def is_told_by(plan: Plan) -> bool:
    """Returns whether the plan alone says what its stages train: of a base model, and of an adapter, it does not."""
    return plan.model.scratch is not None and all(stage.adapter is None for stage in plan.stages)


def intermediate_size(scratch: Scratch) -> int:
    return scratch.intermediate_size or -(-scratch.hidden_size * 8 // 3 // 32) * 32


def parameters(scratch: Scratch, vocabulary: int) -> int:
    """Returns how many weights the model has: its embeddings, its blocks and the last norm.

    A block has the projections of queries, keys, values (with biases in Qwen 2) and of the attention's output, the
    three matrices of a gated feed-forward layer, and two norms.
    """
    hidden = scratch.hidden_size
    keys = hidden // scratch.heads * (scratch.kv_heads or scratch.heads)
    attention = 2 * hidden * hidden + 2 * hidden * keys
    if scratch.architecture == "qwen2":
        attention += hidden + 2 * keys
    block = attention + 3 * hidden * intermediate_size(scratch) + 2 * hidden
    embeddings = vocabulary * hidden * (1 if scratch.tie_embeddings else 2)
    return embeddings + scratch.layers * block + hidden
