"""Layers that are trained whole beside an adapter: which they are, that a tied pair stays one, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_core.resources.stage import Stage
from slipway_trainer.model import adapter_targets, token_rows, whole_layers
from slipway_trainer.model.adapters import add_adapter
from slipway_trainer.model.logit_check import sample_logits
from slipway_trainer.model.merge import merge_adapter
from slipway_trainer.step.errors import BadConfig

WORDS = make_tokenizer()
IDS = torch.tensor([[50, 51, 52, 53]])


def stage(*whole: str, **adapter: Any) -> Stage:
    data = {"train": [{"uri": "package://tang"}]}
    return Stage.model_validate(
        {"name": "sft", "data": data, "adapter": {"rank": 4, "modulesToSave": list(whole) or None} | adapter}
    )


def adapted(tied: bool, *whole: str, **adapter: Any) -> Any:
    model, asked = make_model(WORDS, tie_word_embeddings=tied), stage(*whole, **adapter)
    return add_adapter(model, asked, adapter_targets.resolve(model, asked))


def move(model: Any) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += torch.randn_like(weight) * 0.05


@pytest.mark.parametrize("method", ["LoRA", "DoRA"])
@pytest.mark.parametrize(
    ("tied", "whole", "moved"),
    [
        (True, ["embed_tokens"], {"embed_tokens", "lm_head"}),
        (True, ["lm_head"], {"embed_tokens", "lm_head"}),
        (True, ["embed_tokens", "lm_head"], {"embed_tokens", "lm_head"}),
        (False, ["embed_tokens"], {"embed_tokens"}),
        (False, ["lm_head"], {"lm_head"}),
        (False, ["embed_tokens", "lm_head", "norm"], {"embed_tokens", "lm_head", "norm"}),
    ],
)
def test_they_are_trained_saved_loaded_and_merged_and_a_tied_pair_stays_one(
    tmp_path: Path, tied: bool, whole: list[str], moved: set[str], method: str
) -> None:
    before = make_model(WORDS, tie_word_embeddings=tied).state_dict()
    model = adapted(tied, *whole, method=method)
    in_step = [weight for name, weight in model.named_parameters() if weight.requires_grad and "lora" not in name]
    assert len(in_step) == (1 if tied else len(whole)), "a tied pair is one weight"
    model(input_ids=IDS).logits.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in in_step)
    move(model)
    learned = sample_logits(model.eval())
    model.save_pretrained(str(tmp_path), save_embedding_layers=False)
    fresh = make_model(WORDS, tie_word_embeddings=tied)
    merged = merge_adapter(PeftModel.from_pretrained(fresh, str(tmp_path)))
    torch.testing.assert_close(sample_logits(merged), learned, atol=1e-4, rtol=1e-3)
    assert (merged.get_input_embeddings().weight is merged.get_output_embeddings().weight) is tied
    after = merged.state_dict()
    assert after.keys() == before.keys()
    changed = {name.split(".")[-2] for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed - set(adapter_targets.resolve(fresh, stage("norm"))) == moved


def test_rank_stabilized_adapters_are_scaled_by_the_root_of_the_rank() -> None:
    model = adapted(True, rankStabilized=True, alpha=8.0, rank=16)
    (scale,) = {module.scaling["default"] for module in model.modules() if isinstance(module, LoraLayer)}
    assert scale == 8 / 16**0.5


@pytest.mark.parametrize(("whole", "rows"), [(["embed_tokens"], ["output"]), (["lm_head"], ["input"])])
def test_one_of_two_that_is_trained_whole_needs_no_rows_of_tokens_and_the_other_does(
    tmp_path: Path, whole: list[str], rows: list[str]
) -> None:
    model = adapted(False, *whole)
    token_rows.attach(model, [51, 52])
    assert [name.rsplit(".", 1)[1] for name, _ in model.named_parameters() if token_rows.NAME in name] == rows
    move(model)
    with torch.no_grad():
        learned = model(input_ids=IDS).logits
    model.save_pretrained(str(tmp_path), save_embedding_layers=False)
    token_rows.save(model, dict(model.named_parameters()), tmp_path)
    merged = merge_adapter(PeftModel.from_pretrained(make_model(WORDS, tie_word_embeddings=False), str(tmp_path)))
    token_rows.merge(merged, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=IDS).logits, learned, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("tied", "whole"), [(True, ["lm_head"]), (False, ["embed_tokens", "lm_head"])])
def test_a_vocabulary_that_is_trained_whole_needs_none(tied: bool, whole: list[str]) -> None:
    model = adapted(tied, *whole)
    token_rows.attach(model, [51])
    assert not hasattr(model.get_base_model(), token_rows.NAME)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wte", r"nothing in the model is called wte\. Its layers are called embed_tokens, lm_head, down_proj, "),
        ("tokens", "nothing in the model is called tokens"),
        ("mlp", "mlp is a part without weights of its own"),
    ],
)
def test_what_is_no_layer_is_refused_with_those_that_are(name: str, why: str) -> None:
    with pytest.raises(BadConfig, match=r"^stages\[sft\]\.adapter\.modulesToSave: " + why):
        whole_layers.resolve(make_model(WORDS), stage(name))


def test_a_layer_is_trained_whole_or_adapted_and_not_both() -> None:
    model = make_model(WORDS)
    assert adapter_targets.resolve(model, stage("up_proj")) == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "v_proj",
    ]  # fmt: skip
    one = adapter_targets.resolve(model, stage("layers.0.mlp.up_proj"))
    assert "up_proj" not in one
    assert "model.layers.1.mlp.up_proj" in one
    with pytest.raises(BadConfig, match="up_proj is trained whole"):
        adapter_targets.resolve(model, stage("up_proj", targetModules="q_proj,up_proj"))
