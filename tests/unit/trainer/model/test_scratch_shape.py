"""What the plan alone says of a new model's size is what the model has."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from slipway_core.resources.model import Scratch
from slipway_trainer.model import scratch_shape
from slipway_trainer.model.new_model import scratch_config


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kvHeads": 2, "tieEmbeddings": False},
        {"intermediateSize": 200, "layers": 7},
        {"hiddenSize": 96, "heads": 3, "kvHeads": 1, "tieEmbeddings": False, "intermediateSize": 17},
    ],
)
def test_a_new_model_has_the_parameters_that_its_shape_says(architecture, settings):
    fields = {"architecture": architecture, "hiddenSize": 64, "tokenizer": {"train": {}}} | settings
    scratch = Scratch.model_validate(fields, by_alias=True, by_name=False)
    config = scratch_config(scratch, None)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == scratch_shape.parameters(scratch, config.vocab_size)


@pytest.mark.parametrize(("scratch", "adapters", "told"), [(1, [None], 1), (None, [None], 0), (1, [None, "LoRA"], 0)])
def test_the_plan_tells_the_size_of_a_new_model_without_an_adapter(scratch, adapters, told):
    plan = SimpleNamespace(
        model=SimpleNamespace(scratch=scratch), stages=[SimpleNamespace(adapter=adapter) for adapter in adapters]
    )
    assert scratch_shape.is_told_by(plan) == bool(told)
