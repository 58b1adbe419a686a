"""What llama.cpp would compute another way is refused by its name, before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import LlamaConfig, MistralConfig, Qwen2Config

from slipway_trainer.model import gguf_shape
from slipway_trainer.step.errors import BadConfig

SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}


def test_the_families_that_can_be_written() -> None:
    llama = gguf_shape.of_config(LlamaConfig(**SIZES, rope_theta=5000.0).to_dict())
    assert (llama.architecture, llama.permuted, llama.head_size, llama.rope_theta) == ("llama", True, 16, 5000.0)
    mistral = gguf_shape.of_config(MistralConfig(**SIZES, sliding_window=1024).to_dict())
    assert (mistral.architecture, mistral.permuted, mistral.context) == ("llama", True, 1024)
    qwen = gguf_shape.of_config(Qwen2Config(**SIZES, sliding_window=1024).to_dict())
    assert (qwen.architecture, qwen.permuted, qwen.context) == ("qwen2", False, 4096)
    assert gguf_shape.of_config(LlamaConfig(**SIZES, head_dim=32).to_dict()).head_size == 32


def test_a_configuration_of_an_earlier_transformers_is_read_too() -> None:
    config = LlamaConfig(**SIZES).to_dict()
    del config["rope_parameters"]
    assert gguf_shape.of_config(config | {"rope_theta": 500.0, "rope_scaling": None}).rope_theta == 500.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gemma3"}, "the model is a gemma3, and llama, mistral, qwen2 can be written as GGUF"),
        ({"hidden_act": "gelu"}, "hidden_act gelu"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope scaling llama3"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}}, "rope scaling linear"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, r"partial_rotary_factor 0\.5"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantised weights"),
    ],
)
def test_what_is_computed_otherwise_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfig, match=rf"^export\.gguf: .*{said}.*Leave export\.gguf out$"):
        gguf_shape.of_config(LlamaConfig(**SIZES).to_dict() | change)
