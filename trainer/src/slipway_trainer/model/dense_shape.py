"""The sizes of a model of a well-known family, told from its configuration alone: without torch, whose import takes
seconds.

What is told is what the model has, weight for weight. Of a configuration that says something else than these families
say, nothing is told, and whoever asks makes the model without weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from slipway_core.plan import Plan
from slipway_core.resources.model import Scratch
from slipway_core.resources.stage import Stage
from slipway_trainer.model import config_file, scratch_shape

_ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
_FEED_FORWARD: Final = ("gate_proj", "up_proj", "down_proj")
_FAMILIES: Final = ("llama", "mistral", "qwen2", "qwen3")
_SIZES: Final = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
"""Told by every published model: what one leaves out is filled in by transformers, as its version has it."""
_ELSE: Final = ("auto_map", "quantization_config", "text_config")
"""What makes another model of it."""
_KINDS: Final = ("full_attention", "sliding_attention")
_SCALED: Final = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
"""Of Llama 3's rotary positions."""


@dataclass(frozen=True)
class DenseShape:
    """Of a decoder of equal blocks: attention with groups of heads, and a gated feed-forward layer."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    groups: int
    """Heads of keys, and of values."""
    head: int
    """Width of a head."""
    vocabulary: int
    tied: bool
    biased: tuple[str, ...] = ()
    """Linear layers that have a bias."""
    head_norms: bool = False
    """Whether queries and keys have norms of their own."""

    @property
    def queries(self) -> int:
        return self.heads * self.head

    @property
    def keys(self) -> int:
        return self.groups * self.head

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear layers of a block, by their names."""
        hidden, wide = self.hidden, self.intermediate
        return {
            "q_proj": (hidden, self.queries),
            "k_proj": (hidden, self.keys),
            "v_proj": (hidden, self.keys),
            "o_proj": (self.queries, hidden),
            "gate_proj": (hidden, wide),
            "up_proj": (hidden, wide),
            "down_proj": (wide, hidden),
        }

    @property
    def parameters(self) -> int:
        """All weights: embeddings, blocks of linear layers and two norms, and the last norm."""
        matrices = sum(inputs * outputs for inputs, outputs in self.linear.values())
        biases = sum(self.linear[name][1] for name in self.biased)
        block = matrices + biases + 2 * self.hidden + (2 * self.head if self.head_norms else 0)
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * block + self.hidden


def of_plan(plan: Plan, base: Path | None) -> DenseShape | None:
    """Returns the shape of the model that a plan starts with; of a new one without its vocabulary. None where it cannot
    be told.

    Args:
        base: folder of the base model; None when the plan makes a new one.

    Raises BadModel when the folder has no configuration that can be read.
    """
    if plan.model.scratch is not None:
        return of_scratch(plan.model.scratch, scratch_shape.VOCABULARY_STEP)
    return None if base is None else of_config(config_file.read(base))


def is_plain(stage: Stage) -> bool:
    """Whether a stage trains all of the model, or an adapter that any of these models takes: LoRA or DoRA on linear
    layers that they have, and nothing beside it."""
    adapter = stage.adapter
    if adapter is None:
        return True
    names = {*_ATTENTION, *_FEED_FORWARD}
    wanted = names if adapter.target_modules == "Auto" else set(adapter.target_modules.split(","))
    return adapter.method in ("LoRA", "DoRA") and adapter.modules_to_save is None and wanted <= names


def of_scratch(scratch: Scratch, vocabulary: int) -> DenseShape:
    """Returns the shape of a new model, as `new_model.scratch_config` makes it."""
    return DenseShape(
        hidden=scratch.hidden_size,
        intermediate=scratch_shape.intermediate_size(scratch),
        layers=scratch.layers,
        heads=scratch.heads,
        groups=scratch.kv_heads or scratch.heads,
        head=scratch.hidden_size // scratch.heads,
        vocabulary=vocabulary,
        tied=scratch.tie_embeddings,
        biased=("q_proj", "k_proj", "v_proj") if scratch.architecture == "qwen2" else (),
    )


def of_config(config: Mapping[str, Any]) -> DenseShape | None:
    """Returns the shape that a config.json describes; None where that is not certain."""
    family = config.get("model_type")
    if family not in _FAMILIES or any(config.get(name) is not None for name in _ELSE):
        return None
    sizes = [config.get(name) for name in _SIZES]
    flags = [config.get(name, False) for name in ("tie_word_embeddings", "attention_bias", "mlp_bias")]
    if not all(map(_is_size, sizes)) or not all(isinstance(flag, bool) for flag in flags):
        return None
    hidden, intermediate, layers, heads, groups, vocabulary = (int(size or 0) for size in sizes)
    head = config.get("head_dim")
    if head is None and family != "qwen3":
        head = hidden // heads
    if not _is_size(head) or hidden % heads or heads % groups or not _is_usual(config, layers, vocabulary):
        return None
    tied, attention, feed_forward = flags
    return DenseShape(
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        groups=groups,
        head=int(head or 0),
        vocabulary=vocabulary,
        tied=tied,
        biased=_biased(str(family), attention=attention, feed_forward=feed_forward),
        head_norms=family == "qwen3",
    )


def _biased(family: str, *, attention: bool, feed_forward: bool) -> tuple[str, ...]:
    if family == "qwen2":
        return _ATTENTION[:3]
    of_attention = _ATTENTION if attention and family != "mistral" else ()
    return (*of_attention, *_FEED_FORWARD) if feed_forward and family == "llama" else of_attention


def _is_usual(config: Mapping[str, Any], layers: int, vocabulary: int) -> bool:
    """Whether nothing in it could keep the model from being made: that is found by making it."""
    padding = config.get("pad_token_id")
    if padding is not None and not (type(padding) is int and 0 <= padding < vocabulary):
        return False
    kinds = config.get("layer_types")
    if kinds is not None and not (isinstance(kinds, list) and len(kinds) == layers):
        return False
    if any(kind not in _KINDS for kind in kinds or ()):
        return False
    return config.get("hidden_act", "silu") == "silu" and all(
        _is_usual_rope(config.get(name)) for name in ("rope_scaling", "rope_parameters")
    )


def _is_usual_rope(rope: Any) -> bool:
    if rope is None:
        return True
    if not isinstance(rope, Mapping) or any(isinstance(value, Mapping) for value in rope.values()):
        return False
    kind = rope.get("rope_type", rope.get("type", "default"))
    return kind == "default" or (kind == "llama3" and all(_is_number(rope.get(name)) for name in _SCALED))


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
