"""What is said that autograd keeps, beside what it keeps."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from slipway_core.resources.data import StageData
from slipway_core.resources.stage import Adapter, Stage
from slipway_trainer.batches.collate import Batch
from slipway_trainer.model import adapters, cut_linear, document_attention, output_loss
from slipway_trainer.model.next_token_loss import NextTokenLoss
from slipway_trainer.training import activations, model_size

TOKENS = 64
SHAPE = {"hidden_size": 64, "intermediate_size": 176, "num_attention_heads": 4, "num_key_value_heads": 2}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def model(family: str, layers: int, dtype: torch.dtype) -> Any:
    config = AutoConfig.for_model(family, vocab_size=256, num_hidden_layers=layers, pad_token_id=0, **SHAPE)
    made = AutoModelForCausalLM.from_config(config, dtype=dtype)
    document_attention.register()
    made.set_attn_implementation(document_attention.CALLS)
    made.config.use_cache = False
    return made


def kept(model: Any) -> int:
    """Returns bytes of what a forward pass keeps, weights apart."""
    loss = NextTokenLoss(model, attention=document_attention.CALLS)
    plain = Batch.of_documents([torch.arange(TOKENS)])
    places = torch.arange(TOKENS - 1)
    batch = Batch(plain.input_ids, plain.position_ids, places, places, plain.lengths)
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(batch)
    return sum(t.untyped_storage().nbytes() for place, t in found.items() if place not in weights)


def stage(**settings: Any) -> Stage:
    data = StageData.model_validate({"train": [{"uri": "file:///x"}]}, by_alias=True, by_name=False)
    return Stage(name="s", data=data, **settings)


@pytest.mark.parametrize("precision", ["FP32", "BF16"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "qwen3"])
def test_a_block_keeps_what_is_counted(family: str, precision: Any) -> None:
    dtype = torch.float32 if precision == "FP32" else torch.bfloat16
    one, two = model(family, 1, dtype), model(family, 2, dtype)
    size = model_size.of_model(two, stage())
    assert activations.of_block(size, precision, TOKENS) == kept(two) - kept(one)


@pytest.fixture(params=["whole", "cut"])
def weights(request: pytest.FixtureRequest) -> Iterator[None]:
    with cut_linear.for_one_stage():
        if request.param == "cut":
            cut_linear.use()
        yield


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("targets", [LINEAR, ["q_proj", "v_proj"]])
def test_a_block_with_an_adapter_keeps_the_inputs_of_its_layers_alone(targets: list[str]) -> None:
    settings = stage(adapter=Adapter(rank=8))
    one, two = (adapters.add_adapter(model("llama", n, torch.float32), settings, targets) for n in (1, 2))
    # The first block's norm has an input that needs no gradient.
    three = adapters.add_adapter(model("llama", 3, torch.float32), settings, targets)
    assert kept(two) > kept(one)
    size = model_size.of_model(three, settings)
    assert activations.of_block(size, "FP32", TOKENS) == kept(three) - kept(two)


def test_checkpointing_keeps_the_input_of_each_block() -> None:
    def twice(layers: int) -> int:
        made = model("llama", layers, torch.float32)
        made.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return kept(made)

    assert twice(3) - twice(2) == TOKENS * SHAPE["hidden_size"] * 4


@pytest.mark.parametrize("vocabulary", [256, 32_000, 152_064])
def test_logits_at_once_are_those_of_the_output_layer(vocabulary: int) -> None:
    for device in ("cpu", "cuda"):
        assert activations.rows_at_once(vocabulary, device) == output_loss.rows_at_once(
            vocabulary, torch.device(device)
        )
