import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from slipway_core.resources.model import Scratch
from slipway_core.resources.stage import Stage
from slipway_trainer.model import adapter_targets
from slipway_trainer.model.adapters import linear_layers
from slipway_trainer.model.new_model import scratch_config
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.tokens import tokenizer


def stage(targets):
    return Stage.model_validate(
        {"name": "sft", "data": {"train": [{"uri": "package://tang"}]}, "adapter": {"targetModules": targets}}
    )


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
def test_the_names_of_a_new_model_are_those_of_its_linear_layers(architecture):
    words = tokenizer.train(["床前明月光"], vocabulary=300, max_length=64)
    scratch = Scratch.model_validate(
        {"architecture": architecture, "layers": 1, "hiddenSize": 32, "heads": 2, "tokenizer": {"train": {}}}
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(scratch_config(scratch, words))
    assert set(linear_layers(model)) == {f"model.layers.0.{name}" for name in adapter_targets.NEW_MODEL}


def test_a_folder_is_read_by_its_headers(tmp_path):
    tensors = {
        "model.embed_tokens.weight": torch.zeros(4, 2),
        "model.layers.0.attn.c_attn.weight": torch.zeros(2, 2),
        "model.norm.weight": torch.zeros(2),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    names = adapter_targets.of_folder(tmp_path)
    assert sorted(names) == ["model.embed_tokens", "model.layers.0.attn.c_attn"]
    adapter_targets.check(stage("attn.c_attn"), names)
    with pytest.raises(BadConfig, match=r"stages\[sft\].*called q_proj\. Its layers are called c_attn;"):
        adapter_targets.check(stage("c_attn,q_proj"), names)
    with pytest.raises(BadConfig):
        adapter_targets.check(stage("_attn"), names)


def test_what_cannot_be_read_is_left_to_the_one_who_loads_it(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x")
    adapter_targets.check(stage("q_proj"), adapter_targets.of_folder(tmp_path))
