"""A base in 4 bits: what is held so, that it trains as peft's does, and that the base it is merged into is the same."""

import importlib.util
from dataclasses import replace
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from bitsandbytes.nn import modules as bitsandbytes_layers
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from slipway_core.resources.stage import Stage
from slipway_trainer.model import adapter_targets, four_bits
from slipway_trainer.model.adapters import add_adapter
from slipway_trainer.model.cast_weights import cast_weights
from slipway_trainer.model.logit_check import sample_logits
from slipway_trainer.model.merge import merge_adapter
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.training import memory, model_size

WORDS = make_tokenizer()
IDS = torch.arange(40).view(2, 20)


def stage(**adapter: Any) -> Stage:
    data = {"train": [{"uri": "package://tang"}]}
    return Stage.model_validate({"name": "sft", "data": data, "adapter": {"method": "QLoRA", "rank": 4} | adapter})


def quantized(dtype: torch.dtype = torch.float32, asked: Stage | None = None) -> Any:
    model = make_model(WORDS)
    four_bits.quantize(model, asked or stage(), dtype)
    cast_weights(model, dtype)
    return model


def adapted(dtype: torch.dtype = torch.float32) -> Any:
    targets = adapter_targets.resolve(make_model(WORDS), stage())
    return add_adapter(quantized(dtype), stage(), targets)


def held(model: Any) -> dict[str, bytes]:
    return {name: bytes(w.detach().numpy()) for name, w in model.named_parameters() if w.dtype == torch.uint8}


def test_linear_layers_are_held_so_but_the_output_and_what_is_trained_whole() -> None:
    model = quantized(asked=stage(modulesToSave=["layers.1.mlp.up_proj"]))
    found = {name for name, module in model.named_modules() if isinstance(module, Linear4bit)}
    assert len(found) == 13
    assert "lm_head" not in found
    assert "model.layers.1.mlp.up_proj" not in found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_base_that_it_is_merged_into_is_the_one_it_was_trained_on(dtype: torch.dtype) -> None:
    """In half precision the stored weights are what is quantised, not what they are rounded to."""
    base = make_model(WORDS)
    four_bits.round_trip(base, stage(), dtype)
    model = quantized(dtype)
    from bitsandbytes import functional

    for name, layer in model.named_modules():
        if isinstance(layer, Linear4bit):
            weight = functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            assert torch.equal(weight, base.get_submodule(name).weight), name
            assert weight.dtype == dtype
    if dtype == torch.float32:
        torch.testing.assert_close(sample_logits(base), sample_logits(model), atol=1e-5, rtol=1e-4)
        assert (sample_logits(base) - sample_logits(make_model(WORDS))).abs().max() > 0.1, "4 bits do lose something"


def test_an_evaluation_leaves_them_as_they_are_on_cpus_that_would_repack_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """There bitsandbytes puts weights into another order in place, and the next step learns from garbage."""
    monkeypatch.setattr(bitsandbytes_layers, "has_avx512bf16", lambda: True)

    def repack(*_: Any) -> None:
        raise AssertionError("repacked")

    monkeypatch.setattr(bitsandbytes_layers, "_convert_weight_packed_for_cpu", repack)
    model = adapted()
    before = held(model)
    sample_logits(model.eval())
    assert held(model.train()) == before
    plain = Linear4bit(64, 64, bias=False, quant_type="nf4").to("cpu").eval()
    with pytest.raises(AssertionError, match="repacked"):
        plain(torch.ones(1, 64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_trains_the_adapter_alone_and_merges(dtype: torch.dtype) -> None:
    model = adapted(dtype)
    before = held(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(6):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.3
    assert held(model) == before
    if dtype == torch.float32:
        base = make_model(WORDS)
        four_bits.round_trip(base, stage())
        merged = add_adapter(base, stage(), adapter_targets.resolve(base, stage()))
        weights = {name: weight for name, weight in model.state_dict().items() if "lora_" in name}
        assert merged.load_state_dict(weights, strict=False).unexpected_keys == []
        learned = sample_logits(model)
        torch.testing.assert_close(sample_logits(merge_adapter(merged)), learned, atol=1e-4, rtol=1e-3)


def test_they_are_counted_at_what_they_take() -> None:
    expected = four_bits.weights(make_model(WORDS), stage())
    assert expected == 2 * (4096 + 2048 + 2048 + 4096 + 3 * 8192)
    planned = model_size.of_model(
        add_adapter(make_model(WORDS), stage(), ["q_proj"]), stage(), four_bit_weights=expected
    )
    assert model_size.of_model(add_adapter(quantized(), stage(), ["q_proj"]), stage()) == planned
    whole = replace(planned, four_bit_weights=0)
    adamw = stage().optimizer
    saved = memory.state_bytes(whole, "BF16", 0, 1, adamw) - memory.state_bytes(planned, "BF16", 0, 1, adamw)
    assert saved / expected == pytest.approx(2 - 0.516, abs=1e-3)


def test_what_bitsandbytes_cannot_take_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    field = r"^stages\[sft\]\.adapter\.method: QLoRA"
    with pytest.raises(BadConfig, match=field + r": model\.layers\.0\.mlp\.down_proj has 96 inputs, .* blocks of 64"):
        four_bits.check(make_model(WORDS, intermediate_size=96), stage())
    with torch.device("meta"):
        other = GPT2LMHeadModel(GPT2Config(vocab_size=96, n_embd=64, n_layer=1, n_head=2))
    with pytest.raises(
        BadConfig, match=field + r": transformer\.h\.0\.attn\.c_attn is a Conv1D, and bitsandbytes takes"
    ):
        four_bits.check(other, stage())
    four_bits.check(make_model(WORDS), stage())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadConfig, match=field + " needs bitsandbytes, which is not installed"):
        four_bits.check(make_model(WORDS), stage())
