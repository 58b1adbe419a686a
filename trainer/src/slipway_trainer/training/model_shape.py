"""The sizes of a model that decide how much memory its training takes: without torch, whose import takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_SHARED_INPUTS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers of a block that all have the same input, which is kept once."""


@dataclass(frozen=True)
class ModelSize:
    """Of the model that a stage trains, with its adapter. What is 0 is as wide as `hidden`."""

    parameters: int
    trainable: int
    layers: int
    hidden: int
    intermediate: int
    """Width of the feed-forward block; of a mixture of all experts that a token goes through, together."""
    vocabulary: int
    four_bit_weights: int = 0
    """Of all, those that are held in 4 bits."""
    expert_weights: int = 0
    """Of experts with an adapter: they stand in memory once more, with what the adapter adds."""
    stacked: int = 0
    """Trained weights of tensors that are several matrices, such as experts, and of adapters on them."""
    in_one_piece: str | None = None
    """Why ZeRO-3 cannot hold the weights in pieces; None where it can."""
    in_pieces: bool = False
    """Whether they are in pieces already."""
    heads: int = 0
    """Of queries; 0 where nothing says it."""
    queries: int = 0
    """Width of all heads of queries together."""
    keys: int = 0
    """Width of all heads of keys together, which is that of the values too."""
    gated: bool = True
    """Whether the feed-forward block multiplies two of its projections."""
    head_norms: bool = False
    """Whether queries and keys have norms of their own."""
    tied: bool = False
    """Whether the embedding is the output layer too."""
    adapted: int = 0
    """Linear layers that have an adapter, in all blocks."""
    rank: int = 0
    """Of these adapters."""
    adapted_outputs: int = 0
    """Values a token that come out of these layers, in all blocks."""
    kept_inputs: int | None = None
    """Values a token of the inputs of linear layers, in all blocks, that their gradients need; None where every linear
    layer is trained."""
    dropped_inputs: int = 0
    """Values a token that an adapter with dropout keeps beside them, and DoRA of its layers' outputs, in all blocks."""
    trains_output: bool = True
    """Whether the output layer's weight is trained."""

    @classmethod
    def of(cls, config: PretrainedConfig, parameters: int, trainable: int, **more: Any) -> ModelSize:
        """Returns it as a configuration has it.

        Args:
            more: further fields, which it does not have.
        """
        text = config.get_text_config()
        hidden = getattr(text, "hidden_size", None) or 1024
        heads = getattr(text, "num_attention_heads", None) or 0
        size = getattr(text, "head_dim", None) or (hidden // heads if heads else 0)
        groups = getattr(text, "num_key_value_heads", None) or heads
        return cls(
            parameters=parameters,
            trainable=trainable,
            layers=getattr(text, "num_hidden_layers", None) or 1,
            hidden=hidden,
            intermediate=_intermediate(text, hidden),
            vocabulary=getattr(text, "vocab_size", None) or 32000,
            heads=heads,
            queries=heads * size,
            keys=groups * size,
            tied=bool(getattr(text, "tie_word_embeddings", False)),
            **more,
        )

    @property
    def query_width(self) -> int:
        return self.queries or self.hidden

    @property
    def key_width(self) -> int:
        return self.keys or self.hidden

    @property
    def embedding(self) -> int:
        """Weights of the embedding."""
        return self.vocabulary * self.hidden


def kept_as(layer: str) -> str:
    """Returns the name by which the input of a layer is kept: that of the first layer that has it too."""
    return next((names[0] for names in _SHARED_INPUTS if layer in names), layer)


def _intermediate(text: Any, hidden: int) -> int:
    """Returns the width of the feed-forward block that a token goes through."""
    width = getattr(text, "intermediate_size", None) or 4 * hidden
    chosen = getattr(text, "num_experts_per_tok", None)
    if not chosen:
        return width
    shared = getattr(text, "shared_expert_intermediate_size", None) or 0
    return chosen * (getattr(text, "moe_intermediate_size", None) or width) + shared
