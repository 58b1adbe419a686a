"""Which optimizer takes which weights, and which of them decay."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from slipway_core.resources.data import StageData
from slipway_core.resources.optimizer import Optimizer
from slipway_core.resources.stage import Adapter, Stage
from slipway_trainer.model import adapter_targets
from slipway_trainer.model.adapters import add_adapter
from slipway_trainer.model.token_rows import TokenRows
from slipway_trainer.step import packages
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.training import memory_table, model_size, optimizer
from slipway_trainer.training.muon import Muon

CPU = torch.device("cpu")


class Tied(nn.Module):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)
        self.output = nn.Linear(width, 2 * width, bias=False)
        self.output.weight = self.embedding.weight


def stage(**settings: Any) -> Stage:
    data = StageData.model_validate({"train": [{"uri": "file:///x"}]}, by_alias=True, by_name=False)
    return Stage(name="s", data=data, optimizer=Optimizer(**settings))


def groups(model: nn.Module, **settings: Any) -> list[dict[str, Any]]:
    return optimizer.make(model, stage(**settings), CPU).param_groups


def test_only_matrices_decay() -> None:
    model = Tied()
    decayed, kept = groups(model, weight_decay=0.3)
    assert [id(p) for p in decayed["params"]] == [id(model.linear.weight)]
    assert decayed["weight_decay"] == 0.3
    assert kept["weight_decay"] == 0
    assert id(model.output.weight) in {id(p) for p in kept["params"]}
    assert len(kept["params"]) == 4


def test_rows_that_are_trained_beside_an_adapter_do_not_decay() -> None:
    model = Tied().requires_grad_(False)
    model.rows = TokenRows([1, 3], model.embedding.weight, tied=False)
    (group,) = groups(model, weight_decay=0.3)
    assert (len(group["params"]), group["weight_decay"]) == (2, 0)


def test_frozen_weights_are_in_no_group() -> None:
    model = Tied().requires_grad_(False)
    model.linear.weight.requires_grad = True
    for name in ("AdamW", "AdamW8bit", "Muon"):
        (group,) = groups(model, name=name)
        assert len(group["params"]) == 1


@pytest.mark.parametrize("name", ["AdamW", "AdamW8bit", "Muon"])
def test_a_step_is_taken_on_a_cpu_at_the_rate_that_the_loop_sets(name: str) -> None:
    model = Tied()
    made = optimizer.make(model, stage(name=name), CPU)
    model.linear(torch.ones(1, 2)).sum().backward()
    before = model.linear.weight.clone()
    made.step()
    assert torch.equal(model.linear.weight, before), "the rate is 0 until the loop sets it"
    optimizer.set_learning_rate(made.param_groups, 0.1)
    made.step()
    assert not torch.equal(model.linear.weight, before)


def llama(*, tied: bool) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        tie_word_embeddings=tied,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest(tied: bool) -> None:
    model = llama(tied=tied)
    made = optimizer.make(model, stage(name="Muon", weight_decay=0.3, momentum=0.8), CPU)
    assert isinstance(made, Muon)
    matrices, *rest = made.param_groups
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {names[id(weight)] for weight in matrices["params"]}
    assert found == {name for name in names.values() if "layers" in name and "norm" not in name}
    assert (matrices["momentum"], matrices["weight_decay"]) == (0.8, 0.3)
    others = {names[id(w)]: group["weight_decay"] for group in rest for w in group["params"]}
    assert others["model.embed_tokens.weight"] == 0
    assert others.get("lm_head.weight", 0.3) == 0.3
    assert len(found) + len(others) == len(names)
    assert optimizer.in_words(made) == "Muon on 14 matrices of 0.01M weights, AdamW on the other 0.00M"
    assert optimizer.in_words(optimizer.make(model, stage(), CPU)) is None


@pytest.mark.parametrize("adapted", [False, True])
def test_experts_that_are_one_tensor_and_adapters_on_them_go_by_adamw(adapted: bool) -> None:
    config = Qwen3MoeConfig(
        vocab_size=32, hidden_size=64, intermediate_size=16, moe_intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=32, num_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    model: Any = Qwen3MoeForCausalLM(config)
    taught = stage(name="Muon").model_copy(update={"adapter": Adapter(rank=2) if adapted else None})
    if adapted:
        model = add_adapter(model, taught, adapter_targets.resolve(model, taught))
    matrices = {id(weight) for weight in optimizer.muon_matrices(model)}
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    experts = [weight for name, weight in trained.items() if "experts" in name]
    assert len(experts) == (4 if adapted else 2)
    assert not matrices & {id(weight) for weight in experts}
    assert matrices & {id(weight) for name, weight in trained.items() if "q_proj" in name}
    moments = sum(weight.numel() * (4 if id(weight) in matrices else 8) for weight in trained.values())
    told = memory_table.moment_bytes(model_size.of_model(model, taught), taught.optimizer)
    assert told == pytest.approx(moments, rel=0.03)


def test_moments_of_matrices_are_held_in_8_bits_and_the_others_in_32() -> None:
    model = Tied(width=64)
    made = optimizer.make(model, stage(name="AdamW8bit", weight_decay=0.0), CPU)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    made.step()
    kinds = {name: made.state[weight]["state1"].dtype for name, weight in model.named_parameters()}
    assert kinds.pop("linear.weight") == torch.uint8
    assert set(kinds.values()) == {torch.float32}
    held = sum(t.nbytes for t in made.state[model.linear.weight].values() if isinstance(t, torch.Tensor))
    # Beside the codes of the two maps, 1 KiB each.
    assert (held - 2048) / model.linear.weight.numel() == pytest.approx(2.03, abs=0.005)


def test_8_bits_without_bitsandbytes_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    wanted = r"stages\[s\].optimizer.name: AdamW8bit needs bitsandbytes, .*: pip install bitsandbytes, or use AdamW"
    with pytest.raises(BadConfig, match=wanted):
        optimizer.make(Tied(), stage(name="AdamW8bit"), CPU)


def test_a_device_that_bitsandbytes_has_no_program_for_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_a_program(*_: Any, **__: Any) -> None:
        raise RuntimeError("no binary for this device")

    monkeypatch.setattr("bitsandbytes.functional.optimizer_update_8bit_blockwise", without_a_program)
    wanted = r"optimizer.name: AdamW8bit: bitsandbytes cannot run it on this cpu: no binary for .* or use AdamW"
    with pytest.raises(BadConfig, match=wanted):
        optimizer.make(Tied(), stage(name="AdamW8bit"), CPU)
