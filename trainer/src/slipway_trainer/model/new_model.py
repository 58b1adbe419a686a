"""A model with random weights, as `model.scratch` asks for it."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from slipway_core.resources.model import Scratch
from slipway_trainer.model.scratch_shape import VOCABULARY_STEP, intermediate_size, rounded
from slipway_trainer.tokens.tokenizer import id_count


def scratch_config(scratch: Scratch, words: PreTrainedTokenizerBase | None) -> PretrainedConfig:
    """Returns the configuration of a new model for a tokenizer; without one it has the layers, but no vocabulary."""
    specific: dict[str, Any] = {"mistral": {"sliding_window": None}}.get(scratch.architecture, {})
    return AutoConfig.for_model(
        scratch.architecture,
        vocab_size=rounded(id_count(words)) if words else VOCABULARY_STEP,
        hidden_size=scratch.hidden_size,
        intermediate_size=intermediate_size(scratch),
        num_hidden_layers=scratch.layers,
        num_attention_heads=scratch.heads,
        num_key_value_heads=scratch.kv_heads or scratch.heads,
        max_position_embeddings=scratch.max_length,
        tie_word_embeddings=scratch.tie_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": scratch.rope_theta},
        bos_token_id=words.bos_token_id if words else None,
        eos_token_id=words.eos_token_id if words else None,
        pad_token_id=words.pad_token_id if words else None,
        **specific,
    )
