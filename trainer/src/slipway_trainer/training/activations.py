"""What the backward pass needs of a micro batch: counted by what autograd keeps, layer by layer.

The counts are those of the Llama family in transformers (Llama, Qwen, Mistral) with attention that stores no matrix of
tokens times tokens, and were held against `torch.autograd.graph.saved_tensors_hooks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway_trainer.training.model_shape import ModelSize

if TYPE_CHECKING:
    from slipway_trainer.training.precision import Precision

CPU_ROWS, FEWEST_ROWS = 256, 128
CPU_LOGITS, GPU_LOGITS = 1 << 24, 1 << 27
"""Those of `model.output_loss`, which imports torch; a test holds them together."""
_FLOAT = 4


def width(precision: Precision) -> int:
    """Returns the bytes of a number in the precision that a model computes in."""
    return _FLOAT if precision == "FP32" else 2


def of_blocks(size: ModelSize, precision: Precision, tokens: int, *, checkpointing: bool) -> int:
    """Returns the bytes of all blocks, and of the norm after them.

    With checkpointing the input of each block, and all of one block, which is computed again.
    """
    number = width(precision)
    block = of_block(size, precision, tokens)
    # A block that is computed backwards holds the gradients of its widest parts beside what was kept.
    working = tokens * 2 * max(size.intermediate, size.hidden) * number
    last = tokens * (size.hidden * (_FLOAT + number) + _FLOAT)
    blocks = block + size.layers * tokens * size.hidden * number if checkpointing else size.layers * block
    experts = size.expert_weights // (max(1, size.layers) if checkpointing else 1) * number
    return blocks + working + last + experts


def of_block(size: ModelSize, precision: Precision, tokens: int) -> int:
    """Returns the bytes that one block keeps for its backward pass."""
    number, layers = width(precision), max(1, size.layers)
    hidden, queries, keys, inner = size.hidden, size.query_width, size.key_width, size.intermediate
    # A norm keeps what it was given, in float32, and where its weight is trained the result before that.
    trains_norms = size.kept_inputs is None
    normed = 2 * hidden + (queries + keys if size.head_norms else 0)
    norms = 2 + (size.heads + size.heads * keys // queries if size.head_norms else 0)
    kept = normed * (_FLOAT + (number if trains_norms else 0)) + norms * _FLOAT
    # Queries, keys, values, the result, and a number a head for the softmax.
    kept += (2 * queries + 2 * keys) * number + _FLOAT * size.heads
    # Gate, what it becomes, and what it multiplies; or what goes into the only activation.
    kept += (3 if size.gated else 1) * inner * number
    # Inputs of the projections: to attention, out of it, into the feed-forward block, and inside it.
    inputs = 2 * hidden + queries + inner if size.kept_inputs is None else size.kept_inputs / layers
    kept += inputs * number
    kept += (size.adapted * size.rank + size.dropped_inputs) / layers * number
    return int(tokens * kept)


def of_output(size: ModelSize, precision: Precision, tokens: int, device: str) -> int:
    """Returns the bytes of the loss in the output layer (`model.output_loss`): the learned tokens' states with their
    gradient, logits of some tokens, and the gradient of the layer's weight in float32."""
    number = width(precision)
    rows = min(tokens, rows_at_once(size.vocabulary, device))
    # In half precision the logits are there as they come out, and once more as the gradient that goes back.
    logits = rows * size.vocabulary * (_FLOAT + (2 * number if number < _FLOAT else 0))
    weight = size.embedding * _FLOAT if size.trains_output else 0
    return 2 * tokens * size.hidden * number + logits + weight


def kept_by_allocator(size: ModelSize, precision: Precision, tokens: int, *, checkpointing: bool) -> int:
    """Returns the bytes of blocks that are free again and that a CPU's C library neither gives back nor fits the next
    ones into: measured with glibc 2.36, about as much as is in use, and what an adapter adds to each layer's output
    and its multiple (docs/memory.md)."""
    in_use = of_blocks(size, precision, tokens, checkpointing=checkpointing) + of_output(size, precision, tokens, "cpu")
    layers = max(1, size.layers) if checkpointing else 1
    return in_use + 2 * tokens * size.adapted_outputs // layers * width(precision)


def rows_at_once(vocabulary: int, device: str) -> int:
    """Returns of how many tokens logits are held at once, as `model.output_loss.rows_at_once`."""
    if device == "cpu":
        return max(FEWEST_ROWS, min(CPU_ROWS, CPU_LOGITS // vocabulary))
    return max(FEWEST_ROWS, GPU_LOGITS // vocabulary // FEWEST_ROWS * FEWEST_ROWS)
