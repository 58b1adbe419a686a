"""What is measured: the shapes of the models, the widths of the rows, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A Llama with the embedding as its output layer."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Weights, the embedding once."""
        keys = self.hidden // self.heads * self.kv_heads
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * keys
        block = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.vocabulary * self.hidden + self.layers * block + self.hidden

    def config(self, positions: int) -> Any:
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=positions,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )

    def operations(self, lengths: Sequence[int], *, adapter: int | None = None) -> float:
        """Returns the floating-point operations of training on documents of these lengths in tokens, none done twice.

        A matrix product takes 2 a weight and token forwards, as many for the gradient of its input and as many for that
        of its weight, which a frozen one has not (Kaplan et al. 2020, 2.1). Causal attention takes 2 · length² · hidden
        a layer and document forwards, half of the square, and twice that backwards.

        Args:
            adapter: weights that are trained beside frozen ones; None where all are trained.
        """
        tokens = sum(lengths)
        weights = (6 if adapter is None else 4) * self.parameters + 6 * (adapter or 0)
        squares = sum(length * length for length in lengths)
        return weights * tokens + 6 * self.layers * self.hidden * squares


@dataclass(frozen=True)
class Extent:
    """How much is measured of each shape."""

    shapes: tuple[Shape, ...]
    widths: tuple[int, ...]
    """Tokens of a row."""
    tokens_at_once: int
    """Of a micro batch."""
    micro_batches: int
    """Of an optimizer step."""
    first_steps: int
    """Steps before the clock starts."""
    steps: int
    """Steps that are timed."""
    stalls: int
    """Checkpoints that are timed."""
    quickstart_steps: int | None = None
    """Of each stage of the quickstart; those of its file when None."""

    def rows_at_once(self, width: int) -> int:
        return max(1, self.tokens_at_once // width)

    def shape(self, name: str) -> Shape:
        return next(shape for shape in self.shapes if shape.name == name)


# 341M weights; and those of Llama 3.2 1B, 1.24B.
FULL = Extent(
    shapes=(
        Shape("0.35B", 24, 1024, 16, 16, 2816, 32_000),
        Shape("1.2B", 16, 2048, 32, 8, 8192, 128_256),
    ),
    widths=(2048, 8192),
    tokens_at_once=16_384,
    micro_batches=4,
    first_steps=3,
    steps=6,
    stalls=3,
)
TINY = Extent(
    shapes=(Shape("tiny", 2, 64, 4, 2, 128, 512),),
    widths=(64, 128),
    tokens_at_once=256,
    micro_batches=2,
    first_steps=1,
    steps=3,
    stalls=2,
    quickstart_steps=3,
)
