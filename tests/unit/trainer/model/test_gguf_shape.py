"""What llama.cpp would compute another way is refused by its name, before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, Qwen2Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from slipway_trainer.model import gguf_shape
from slipway_trainer.step.errors import BadConfig

SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}  # fmt: skip


def test_the_families_that_can_be_written() -> None:
    llama = gguf_shape.of_config(LlamaConfig(**SIZES, rope_theta=5000.0).to_dict())
    assert (llama.architecture, llama.permuted, llama.head_size, llama.rope_theta) == ("llama", True, 16, 5000.0)
    mistral = gguf_shape.of_config(MistralConfig(**SIZES, sliding_window=1024).to_dict())
    assert (mistral.architecture, mistral.permuted, mistral.context) == ("llama", True, 1024)
    qwen = gguf_shape.of_config(Qwen2Config(**SIZES, sliding_window=1024).to_dict())
    assert (qwen.architecture, qwen.permuted, qwen.context) == ("qwen2", False, 4096)
    assert gguf_shape.of_config(LlamaConfig(**SIZES, head_dim=32).to_dict()).head_size == 32


@pytest.mark.parametrize("change", [{}, {"factor": 32.0}, {"low_freq_factor": 0.5, "rope_theta": 1e4}])
def test_positions_of_llama_3_1_are_stretched_as_transformers_stretches_them(change: dict[str, float]) -> None:
    config = LlamaConfig(**SIZES, head_dim=64, rope_parameters=LLAMA3 | change)
    found = gguf_shape.of_config(config.to_dict())
    assert found.rope_divisors is not None
    plain = 1 / found.rope_theta ** (torch.arange(0, 64, 2) / 64)
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    torch.testing.assert_close(plain / torch.tensor(found.rope_divisors), expected, rtol=1e-6, atol=0)
    between = [one for one in found.rope_divisors if 1.001 < one < LLAMA3["factor"]]  # type: ignore[operator]
    assert found.rope_divisors[0] == 1
    assert between, "no frequency shows how it goes from the one to the other"
    assert gguf_shape.of_config(LlamaConfig(**SIZES).to_dict()).rope_divisors is None


def test_without_a_word_of_it_the_first_context_is_the_one_there_is() -> None:
    said = {name: value for name, value in LLAMA3.items() if not name.startswith("original")}
    of_all = gguf_shape.of_config(LlamaConfig(**SIZES).to_dict() | {"rope_parameters": said})
    named = LLAMA3 | {"original_max_position_embeddings": 4096}
    assert of_all == gguf_shape.of_config(LlamaConfig(**SIZES).to_dict() | {"rope_parameters": named})


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
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope scaling llama3 with factor None, low_"),
        ({"rope_parameters": LLAMA3 | {"high_freq_factor": 1.0}}, "high_freq_factor 1.0: .* the last two differ"),
        ({"rope_parameters": LLAMA3 | {"factor": 0}}, "with factor 0, .* above 0"),
        ({"rope_parameters": LLAMA3, "model_type": "qwen2"}, "the model has rope scaling llama3, which is not written"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}}, "rope scaling linear"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, r"partial_rotary_factor 0\.5"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantised weights"),
    ],
)
def test_what_is_computed_otherwise_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfig, match=rf"^export\.gguf: .*{said}.*Leave export\.gguf out$"):
        gguf_shape.of_config(LlamaConfig(**SIZES).to_dict() | change)
