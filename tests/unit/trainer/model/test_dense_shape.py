"""What a plan and a configuration say of a model's size is what the model without weights says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from slipway_core.resources.data import StageData
from slipway_core.resources.model import Scratch
from slipway_core.resources.stage import Adapter, Stage
from slipway_trainer.model import adapter_targets, adapters, dense_shape
from slipway_trainer.model.new_model import scratch_config
from slipway_trainer.preview import stage_sizes
from slipway_trainer.training import model_size

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama, tied, with biases and a head of its own": {
        "model_type": "llama",
        "tie_word_embeddings": True,
        "attention_bias": True,
        "mlp_bias": True,
        "head_dim": 24,
    },
    "llama 3.1": {
        "model_type": "llama",
        "max_position_embeddings": 64,
        "rope_scaling": LLAMA_3,
        "rope_theta": 5e5,
        "pad_token_id": 319,
    },
    "mistral": {"model_type": "mistral", "sliding_window": 16, "head_dim": None},
    "mistral, with a bias that it has not": {"model_type": "mistral", "attention_bias": True, "head_dim": 32},
    "qwen2": {"model_type": "qwen2", "use_sliding_window": False, "layer_types": ["full_attention"] * 3},
    "qwen2, with a head of its own": {"model_type": "qwen2", "head_dim": 8, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "head_dim": 32},
    "qwen3, with biases": {"model_type": "qwen3", "head_dim": 16, "attention_bias": True, "tie_word_embeddings": True},
}
ADAPTERS: list[dict[str, Any] | None] = [
    None,
    {},
    {"rank": 3, "targetModules": "v_proj,down_proj", "dropout": 0.1},
    {"method": "DoRA", "rank": 2},
    {"method": "DoRA", "targetModules": "q_proj,k_proj,o_proj,up_proj", "dropout": 0.2, "rankStabilized": True},
]


def made(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def loaded(config: dict[str, Any], folder: Path) -> Any:
    (folder / "config.json").write_text(json.dumps(config))
    return AutoConfig.from_pretrained(str(folder))


def stage(adapter: dict[str, Any] | None) -> Stage:
    data = StageData.model_validate({"train": [{"uri": "file:///data"}]}, by_alias=True, by_name=False)
    own = None if adapter is None else Adapter.model_validate(adapter, by_alias=True, by_name=False)
    return Stage(name="s", data=data, adapter=own)


def by_torch(model: Any, asked: Stage) -> Any:
    if asked.adapter is not None:
        model = adapters.add_adapter(model, asked, adapter_targets.resolve(model, asked))
    return model_size.of_model(model, asked)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
def test_a_stage_of_a_base_model_has_the_size_that_its_configuration_says(
    name: str, adapter: dict[str, Any] | None, tmp_path: Path
) -> None:
    config, asked = SMALL | CONFIGS[name], stage(adapter)
    shape = dense_shape.of_config(config)
    assert shape is not None
    assert dense_shape.is_plain(asked)
    assert stage_sizes.of_stage(shape, asked) == by_torch(made(loaded(config, tmp_path)), asked)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("adapter", [None, {"rank": 4}])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kvHeads": 2, "tieEmbeddings": False},
        {"intermediateSize": 200, "layers": 7},
        {"hiddenSize": 96, "heads": 3, "kvHeads": 1, "tieEmbeddings": False, "intermediateSize": 17},
    ],
)
def test_a_stage_of_a_new_model_has_the_size_that_its_plan_says(
    architecture: str, adapter: dict[str, Any] | None, settings: dict[str, Any]
) -> None:
    fields = {"architecture": architecture, "hiddenSize": 64, "tokenizer": {"train": {}}} | settings
    scratch, asked = Scratch.model_validate(fields, by_alias=True, by_name=False), stage(adapter)
    config = scratch_config(scratch, None)
    shape = dense_shape.of_scratch(scratch, config.vocab_size)
    assert stage_sizes.of_stage(shape, asked) == by_torch(made(config), asked)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "gemma2"},
        {"model_type": ["llama"]},
        {"model_type": None},
        {"auto_map": {"AutoModelForCausalLM": "x.Y"}},
        {"quantization_config": {"quant_method": "gptq"}},
        {"text_config": {"hidden_size": 8}},
        *({name: value} for name in SMALL for value in (None, 0, "64", True, 64.0)),
        {"num_attention_heads": 6},
        {"num_key_value_heads": 3},
        {"head_dim": "16"},
        {"model_type": "qwen3"},
        {"tie_word_embeddings": "yes"},
        {"attention_bias": None},
        {"pad_token_id": 320},
        {"pad_token_id": -1},
        {"hidden_act": "relu2"},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": LLAMA_3 | {"factor": None}},
        {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
        {"rope_scaling": "default"},
        {"layer_types": ["full_attention"]},
        {"layer_types": ["chunked_attention"] * 3},
        {"layer_types": [[]] * 3},
    ],
    ids=str,
)
def test_nothing_is_told_of_a_configuration_that_could_be_another_model_or_none(change: dict[str, Any]) -> None:
    assert dense_shape.of_config(SMALL | CONFIGS["llama"]) is not None
    assert dense_shape.of_config(SMALL | CONFIGS["llama"] | change) is None


@pytest.mark.parametrize(
    ("adapter", "plain"),
    [
        (None, True),
        ({}, True),
        ({"targetModules": "q_proj"}, True),
        ({"targetModules": "q_proj,lm_head"}, False),
        ({"targetModules": "c_attn"}, False),
        ({"modulesToSave": ["lm_head"]}, False),
        ({"method": "QLoRA"}, False),
        ({"method": "Prefix"}, False),
    ],
)
def test_an_adapter_that_might_be_refused_is_asked_of_the_model(adapter: dict[str, Any] | None, plain: bool) -> None:
    assert dense_shape.is_plain(stage(adapter)) == plain


def test_a_plan_is_told_where_all_its_stages_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL | CONFIGS["qwen3"]))
    model = SimpleNamespace(scratch=None)
    for stages, told in (([None, {}], True), ([{}, {"method": "QLoRA"}], False)):
        plan: Any = SimpleNamespace(model=model, stages=[stage(adapter) for adapter in stages])
        assert stage_sizes.are_told(plan, tmp_path) == told
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"model_type": "gpt2"}))
    assert not stage_sizes.are_told(SimpleNamespace(model=model, stages=[stage(None)]), tmp_path)  # type: ignore[arg-type]
