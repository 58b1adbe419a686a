"""A merged model computes what the model with its adapter computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_trainer.model.cast_weights import cast_weights
from slipway_trainer.model.logit_check import sample_logits
from slipway_trainer.model.merge import merge_adapter


def _adapted(dtype: torch.dtype = torch.float32, **config: Any) -> Any:
    model = make_model(make_tokenizer())
    cast_weights(model, dtype)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.1, **config))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    return adapted.eval()


TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize("dora", [False, True], ids=["LoRA", "DoRA"])
def test_logits_are_the_same_before_and_after(dora: bool) -> None:
    adapted = _adapted(target_modules=TARGETS, use_dora=dora)
    with adapted.disable_adapter():
        without = sample_logits(adapted)
    before = sample_logits(adapted)
    merged = merge_adapter(adapted)
    after = sample_logits(merged)
    assert (before - after).abs().max() < 1e-3
    # The adapter does something, so keeping the base's weights would be noticed.
    assert (before - without).abs().max() > 0.1
    assert not any("lora" in name for name in merged.state_dict())


def test_weights_keep_their_dtype_and_are_rounded_once() -> None:
    exact = merge_adapter(_adapted(target_modules=TARGETS))
    base = _adapted(torch.bfloat16, target_modules=TARGETS)
    reference = _adapted(target_modules=TARGETS)
    # What float32 makes of the same bfloat16 base.
    reference.load_state_dict({name: value.float() for name, value in base.state_dict().items()})
    merged, wanted = merge_adapter(base).state_dict(), merge_adapter(reference).state_dict()
    assert merged.keys() == exact.state_dict().keys()
    for name, value in merged.items():
        assert value.dtype == torch.bfloat16, name
        torch.testing.assert_close(value, wanted[name].to(torch.bfloat16), rtol=0, atol=0)


def test_an_adapter_that_is_not_finite_is_refused() -> None:
    adapted = _adapted(target_modules=["q_proj"])
    with torch.no_grad():
        next(p for n, p in adapted.named_parameters() if "lora_B" in n)[0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        merge_adapter(adapted)


def test_casting_leaves_the_frequencies_of_positions_alone() -> None:
    model = make_model(make_tokenizer(), positions=512)
    frequencies = model.model.rotary_emb.inv_freq.clone()
    cast_weights(model, torch.bfloat16)
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies)
