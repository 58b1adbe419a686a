"""What a model needs for a step, counted by hand and held against what torch counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MixtralConfig, Qwen3MoeConfig

from slipway_trainer.training import model_flops
from slipway_trainer.training.model_flops import ModelFlops

HIDDEN, INNER, LAYERS, VOCABULARY = 64, 128, 2, 320
SHAPE: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
}
BLOCKS = LAYERS * (HIDDEN * HIDDEN * 2 + HIDDEN * HIDDEN + 3 * HIDDEN * INNER)
"""Weights of q and o, of k and v, and of the three matrices of the feed-forward part."""


def llama(**config: Any) -> LlamaForCausalLM:
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**SHAPE | config))


def of(model: nn.Module, max_length: int = 128) -> ModelFlops:
    found = model_flops.of_model(model, max_length)
    assert found is not None
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_a_token_costs_six_operations_a_weight_of_the_blocks_and_a_learned_one_those_of_the_output(tied: bool) -> None:
    found = of(llama(tie_word_embeddings=tied))
    assert found == ModelFlops(6 * BLOCKS, 6 * HIDDEN * VOCABULARY, 6 * LAYERS * HIDDEN)
    assert found.of(10, 4, 100) == 60 * BLOCKS + 24 * HIDDEN * VOCABULARY + 600 * LAYERS * HIDDEN


def test_torch_counts_the_same_for_a_document_whose_every_token_is_learned() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SHAPE | {"attn_implementation": "eager"}))
    tokens = 32
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.randint(0, VOCABULARY, (1, tokens))).logits.sum().backward()
    # Attention without a kernel computes both halves of the square. The gradient of the embedded tokens is none of a
    # matrix, and rotary positions are a product of a few numbers.
    assert counter.get_total_flops() == pytest.approx(of(model).of(tokens, tokens, 2 * tokens**2), rel=0.01)


def test_frozen_weights_cost_four() -> None:
    model = llama()
    model.requires_grad_(False)
    assert of(model).of_token == 4 * BLOCKS
    model.model.layers[0].self_attn.q_proj.requires_grad_(True)
    assert of(model).of_token == 4 * BLOCKS + 2 * HIDDEN * HIDDEN


def test_an_adapter_costs_its_own_and_what_it_saves_whole_is_counted_once() -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"])
    found = of(get_peft_model(llama(tie_word_embeddings=False), config))
    assert found.of_token == 4 * BLOCKS + 6 * LAYERS * 4 * 2 * HIDDEN
    assert found.of_target == 6 * HIDDEN * VOCABULARY


@pytest.mark.parametrize(
    ("config", "gate"), [(MixtralConfig, "num_local_experts"), (Qwen3MoeConfig, "num_experts")], ids=["mixtral", "qwen"]
)
def test_of_experts_those_count_that_a_token_goes_through(
    config: Any, gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    settings = SHAPE | {gate: 8, "num_experts_per_tok": 2, "moe_intermediate_size": INNER, "head_dim": 16}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config(**settings))
    attention, experts, router = 3 * HIDDEN * HIDDEN, 2 * 3 * HIDDEN * INNER, 8 * HIDDEN
    assert of(model).of_token == 6 * LAYERS * (attention + experts + router)
    monkeypatch.setattr(model_flops, "_CHOSEN", ("as_another_family_calls_it",))
    assert model_flops.of_model(model, 128) is None, "how many it goes through is not guessed"


@pytest.mark.parametrize(("window", "layers"), [(64, 0), (128, LAYERS), (None, LAYERS)])
def test_attention_counts_where_whole_documents_are_looked_at(window: int | None, layers: int) -> None:
    from transformers import MistralForCausalLM

    with torch.device("meta"):
        model = MistralForCausalLM(MistralConfig(**SHAPE | {"sliding_window": window}))
    assert of(model, max_length=128).of_square == 6 * layers * HIDDEN


def test_weights_of_four_bits_lie_two_in_a_byte() -> None:
    model = llama()
    layer = model.model.layers[0].mlp.up_proj
    layer.weight = nn.Parameter(torch.empty(HIDDEN * INNER // 2, 1, dtype=torch.uint8), requires_grad=False)
    assert of(model).of_token == 6 * BLOCKS - 2 * HIDDEN * INNER
