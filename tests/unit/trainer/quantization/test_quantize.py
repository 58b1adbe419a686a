"""What is written in 8 or 4 bits is the weight, rounded once, as compressed-tensors reads it; all else stays."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme
from safetensors.torch import load_file
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from slipway_trainer.model import exported_model, logit_check, model_files, quantized_layers
from slipway_trainer.model.quantized_layers import Quantization
from slipway_trainer.quantization import rounding, scheme, write
from slipway_trainer.quantization.quantize import divergence
from slipway_trainer.quantization.write import check, quantize_folder
from slipway_trainer.step.errors import BadConfig, BadExport

ALL: tuple[Quantization, ...] = ("INT8", "INT4", "FP8")
LARGEST_STEP = {"INT8": 1 / 127, "INT4": 1 / 7, "FP8": 1 / 8}
"""Of the largest weight of its row or group."""


def weight_of(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(0)
    # Rows of very different sizes, one of zeros, and one number that only its sign tells from another.
    weight = torch.randn(32, 64) * torch.logspace(-6, 4, 32)[:, None]
    weight[3], weight[5, 7], weight[5, 8] = 0, 9.0, -9.0
    return weight.to(dtype)


def read_by_the_library(parts: dict[str, torch.Tensor], wanted: Quantization) -> torch.Tensor:
    """Returns the weight that compressed-tensors makes of it, with what config.json says and nothing of ours."""
    group = QuantizationConfig.model_validate(scheme.config(wanted, ["lm_head"])).config_groups["group_0"]
    assert isinstance(group, QuantizationScheme)
    if "weight_shape" in parts:
        parts = parts | {"weight_shape": torch.Size(parts["weight_shape"].tolist())}  # type: ignore[dict-item]
    compressor: Any = BaseCompressor.load_from_registry(scheme.SCHEMES[wanted].format)
    return compressor.decompress(parts, group)["weight"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("wanted", ALL)
def test_the_library_reads_each_weight_as_the_nearest_number_that_the_format_has(
    wanted: Quantization, dtype: torch.dtype
) -> None:
    weight = weight_of(dtype)
    parts = rounding.quantize("layer", weight, wanted)
    found = read_by_the_library(parts, wanted).float()
    assert {name: (part.dtype, tuple(part.shape)) for name, part in parts.items()} == {
        name: (layout.dtype, layout.shape) for name, layout in write.layouts((32, 64), dtype, wanted).items()
    }
    size = 32 if wanted == "INT4" else 64
    largest = weight.float().unflatten(-1, (-1, size)).abs().amax(-1, keepdim=True)
    off = (found - weight.float()).abs().unflatten(-1, (-1, size)) / largest.clamp(min=1e-30)
    # Half a step, and what the scale lost when it was stored in the type of the model.
    assert float(off.max()) <= LARGEST_STEP[wanted] / 2 + torch.finfo(dtype).eps
    assert float(off.max()) > LARGEST_STEP[wanted] / 4
    assert torch.equal(found[3], torch.zeros(64))
    assert found[5, 7] == -found[5, 8] != 0
    check("layer", weight, parts, wanted)


@pytest.mark.parametrize("wanted", ALL)
def test_a_row_that_is_small_for_float16_is_written_as_near_as_that_has_numbers(wanted: Quantization) -> None:
    """Down to the smallest number that it has, whose scale would be none of it."""
    torch.manual_seed(0)
    smallest = 2.0**-24
    weight = (torch.randn(400, 64) * torch.logspace(-8, 2, 400)[:, None]).to(torch.float16)
    weight[7], weight[8] = 0, 0
    weight[8, 5] = smallest
    parts = rounding.quantize("layer", weight, wanted)
    check("layer", weight, parts, wanted)
    found = read_by_the_library(parts, wanted)
    assert found[8, 5] == smallest, "a weight that is not 0 does not become it where it is the largest"
    assert not found[7].any()


@pytest.mark.parametrize("wanted", ALL)
def test_what_is_not_the_weight_is_found_before_it_is_published(wanted: Quantization) -> None:
    weight = weight_of(torch.bfloat16)
    parts = rounding.quantize("layer", weight, wanted)
    wrong = parts | {"weight_scale": parts["weight_scale"] * torch.linspace(1, 1.2, 32)[:, None].to(torch.bfloat16)}
    with pytest.raises(BadExport, match=rf"export.quantization: {wanted}: layer.weight\[\d+, \d+\] is .* says"):
        check("layer", weight, wrong, wanted)
    name = "weight_packed" if wanted == "INT4" else "weight"
    swapped = parts | {name: parts[name].roll(1, 0)}
    with pytest.raises(BadExport, match="This is a bug in the export"):
        check("layer", weight, swapped, wanted)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("wanted", ALL)
def test_a_weight_that_is_no_number_does_not_become_one(wanted: Quantization, wrong: float) -> None:
    weight = weight_of()
    weight[2, 2] = wrong
    with pytest.raises(BadExport, match=r"layer\.weight holds NaN or infinity"):
        rounding.quantize("layer", weight, wanted)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("wanted", ALL)
def test_a_folder_has_its_linear_layers_quantised_and_all_else_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Quantization, tied: bool
) -> None:
    words = make_tokenizer()
    model = make_model(words, tie_word_embeddings=tied).to(torch.bfloat16)
    if not tied:
        monkeypatch.setattr(model_files, "SHARD_SIZE", 100_000)
    model_files.write_model(model, words, tmp_path / "a")
    before = weights_of(tmp_path / "a")
    tokens = torch.arange(5, 69).reshape(2, 32)
    logits = logit_check.sample_logits(model, tokens)
    layers = quantized_layers.of_model(model, wanted)
    assert len(layers) == 14
    assert not any("lm_head" in layer for layer in layers)
    quantize_folder(tmp_path / "a", wanted, layers, quantized_layers.left_as_is(model))

    after = weights_of(tmp_path / "a")
    assert len(list((tmp_path / "a").glob("*.safetensors"))) == (1 if tied else 3)
    for name, weight in before.items():
        if name.removesuffix(".weight") in layers:
            parts = rounding.quantize(name, weight, wanted)
            for part, stored in parts.items():
                assert torch.equal(after[f"{name.removesuffix('.weight')}.{part}"].float(), stored.float())
        else:
            assert torch.equal(after[name], weight)
    assert ("lm_head.weight" in after) is not tied
    if not tied:
        index = json.loads((tmp_path / "a" / "model.safetensors.index.json").read_text())
        assert index["weight_map"].keys() == after.keys()
        assert index["metadata"]["total_size"] == sum(weight.nbytes for weight in after.values())
    assert not list((tmp_path / "a").glob("*.quantized"))
    loaded = exported_model.load(tmp_path / "a", dtype=torch.float32).model
    drift = divergence(logits, logit_check.sample_logits(loaded, tokens))
    assert 0 < drift < {"INT8": 0.02, "FP8": 0.2, "INT4": 2}[wanted]
    told = json.loads((tmp_path / "a" / "config.json").read_text())["quantization_config"]
    assert told["ignore"] == ["lm_head"]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: weight for file in folder.glob("*.safetensors") for name, weight in load_file(file).items()}


def test_a_layer_that_is_not_stored_by_its_name_is_refused(tmp_path: Path) -> None:
    words = make_tokenizer()
    model_files.write_model(make_model(words), words, tmp_path / "a")
    with pytest.raises(BadExport, match=r"the files of this family do not have the layer model\.other by that name"):
        quantize_folder(tmp_path / "a", "INT8", ["model.other"], ["lm_head"])


@pytest.mark.parametrize(
    ("config", "wanted", "said"),
    [
        ({"intermediate_size": 144}, "INT4", "the layer model.layers.0.mlp.gate_proj has 144 outputs"),
        ({"intermediate_size": 136}, "INT8", "the layer model.layers.0.mlp.gate_proj has 136 outputs"),
    ],
)
def test_a_layer_that_the_format_does_not_take_is_named(
    config: dict[str, int], wanted: Quantization, said: str
) -> None:
    words = make_tokenizer()
    with pytest.raises(BadConfig, match=re.escape(said)) as caught:
        quantized_layers.of_model(make_model(words, **config), wanted)
    assert "export.quantization" in str(caught.value)


def test_models_with_experts_and_those_without_linear_layers_are_refused() -> None:
    with torch.device("meta"):
        experts = MixtralForCausalLM(MixtralConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=1))
        convolutions = GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=1, n_head=2))
    with pytest.raises(BadConfig, match="the model has 8 experts a layer"):
        quantized_layers.of_model(experts, "INT8")
    with pytest.raises(BadConfig, match=r"a gpt2\) has no linear layers"):
        quantized_layers.of_model(convolutions, "INT8")
