"""Blocks compiled in their place: what comes out, under which names, and how often one is compiled."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import FalconConfig, FalconForCausalLM, LlamaConfig, LlamaForCausalLM

from slipway_trainer.batches.collate import Batch
from slipway_trainer.model import compiled_blocks, document_attention
from slipway_trainer.model.model_inputs import model_inputs

BATCHES = ([10, 6], [9, 7, 5], [30], [4, 4, 4, 4, 9], [12, 3])
TRACED = "eager"
"""A backend that traces blocks as inductor does, and computes what it has traced."""


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Any:
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    document_attention.register()


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def llama(*, checkpointing: bool = False, layers: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers, "vocab_size": 96}
    model = LlamaForCausalLM(LlamaConfig(**shape, **heads)).train()
    document_attention.register()
    model.set_attn_implementation(document_attention.CALLS)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def learn(model: Any, lengths: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Returns logits and gradients."""
    batch = Batch.of_documents([torch.arange(length) + length for length in lengths])
    logits = model(**model_inputs(batch, attention=document_attention.CALLS, packed=True)).logits
    logits.float().log_softmax(-1).square().mean().backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return logits.detach(), gradients


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks_compute_the_same_and_are_compiled_once_for_a_width_and_once_for_all(checkpointing: bool):
    plain, model = llama(checkpointing=checkpointing), llama(checkpointing=checkpointing)
    names = list(model.state_dict())
    compiled_blocks.compile_each(model, TRACED)
    made = []
    for lengths in BATCHES:
        expected, found = learn(plain, lengths), learn(model, lengths)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        made.append(graphs())
    assert made[0] > 0
    assert made[1] == 2 * made[0], "another width makes one for all widths"
    assert made[2:] == [made[1]] * 3, "neither widths nor numbers of documents make more"
    assert list(model.state_dict()) == names


def test_all_blocks_share_what_one_was_compiled_to():
    made = []
    for layers in (1, 3):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = llama(layers=layers)
        compiled_blocks.compile_each(model, TRACED)
        learn(model, BATCHES[0])
        made.append(graphs())
    assert made[0] == made[1]


def test_an_adapter_on_compiled_blocks_learns_the_same():
    from peft import LoraConfig, get_peft_model

    def adapted() -> Any:
        model = llama()
        torch.manual_seed(1)
        return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False))

    plain, model = adapted(), adapted()
    assert compiled_blocks.of_model(model) is model.base_model.model.model.layers
    compiled_blocks.compile_each(model, TRACED)
    expected, found = learn(plain, BATCHES[0]), learn(model, BATCHES[0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert graphs() > 0


def test_what_was_not_tried_is_said() -> None:
    assert compiled_blocks.unfit(llama()) is None
    assert compiled_blocks.untried(llama()) is None
    heads = {"num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 32, "vocab_size": 96}
    falcon = FalconForCausalLM(FalconConfig(**heads))
    assert compiled_blocks.untried(falcon) == ("it was tried with llama, mistral, qwen2 and qwen3, and not with falcon")
    falcon.config.num_hidden_layers = 7
    assert compiled_blocks.unfit(falcon) == "falcon has no list of blocks that are alike"


@pytest.mark.parametrize(
    ("device", "there", "headers", "missing"),
    [
        ("cpu", ["g++"], True, None),
        ("cpu", ["clang++"], True, "a C++ compiler (g++)"),
        ("cpu", ["gcc"], True, "a C++ compiler (g++)"),
        ("cpu", ["g++"], False, "Python.h (python3-dev)"),
        ("cuda", ["gcc"], True, None),
        ("cuda", ["clang"], True, None),
        ("cuda", [], True, "a C compiler (gcc), which triton starts its kernels with"),
    ],
)
def test_what_a_machine_lacks_is_named(
    device: str, there: list[str], headers: bool, missing: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in there:
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    if headers:
        (tmp_path / "Python.h").touch()
    assert compiled_blocks.missing(torch.device(device)) == missing


def test_a_block_that_cannot_be_compiled_says_what_to_set() -> None:
    def refuses(*_: Any) -> Any:
        raise RuntimeError("no such kernel")

    model = llama()
    compiled_blocks.compile_each(model, refuses)
    with pytest.raises(Exception, match="no such kernel") as raised:
        learn(model, BATCHES[0])
    failure = compiled_blocks.failure(raised.value)
    assert "no such kernel" in str(failure)
    assert "Set stages[].compile: Disabled" in str(failure)
    assert compiled_blocks.failure(RuntimeError("another one")) is None
