"""What an adapter goes on, and what is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM

from slipway_core.resources.stage import Memory, Stage
from slipway_trainer.model import adapter_targets, adapters, fused_experts
from slipway_trainer.model.adapters import add_adapter
from slipway_trainer.model.logit_check import sample_logits
from slipway_trainer.model.merge import merge_adapter
from slipway_trainer.step.errors import BadConfig

PLAIN = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GPT2 = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "resid_pdrop": 0.0}
MAMBA = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
LLAMA4 = PLAIN | EXPERTS | {"attention_chunk_size": 64, "intermediate_size_mlp": 64, "no_rope_layers": [1, 0]}
ATTENTION = ["k_proj", "o_proj", "q_proj", "v_proj"]
FUSED = ["experts.down_proj", "experts.gate_up_proj"]
MLP = ["down_proj", "gate_proj", "up_proj"]


def stage(targets: str = "Auto", method: str = "LoRA", **adapter: Any) -> Stage:
    return Stage.model_validate(
        {
            "name": "sft",
            "data": {"train": [{"uri": "package://tang"}]},
            "adapter": {"method": method, "targetModules": targets, "rank": 4} | adapter,
        }
    )


def make(family: str, device: str = "cpu", **settings: Any) -> Any:
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))


FAMILIES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("llama", PLAIN, sorted([*ATTENTION, *MLP])),
    ("gpt2", GPT2, ["c_attn", "c_fc", "c_proj"]),
    ("falcon", {k: v for k, v in PLAIN.items() if "head" not in k[:4]}, sorted(
        ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"])),
    ("qwen3_moe", PLAIN | EXPERTS, sorted([*ATTENTION, *FUSED])),
    ("llama4_text", LLAMA4, sorted([*ATTENTION, *MLP, *FUSED])),
    ("mamba", MAMBA, ["in_proj"]),
]  # fmt: skip


@pytest.mark.parametrize(("family", "settings", "expected"), FAMILIES)
def test_auto_takes_all_linear_layers_but_the_output_with_and_without_weights(
    family: str, settings: dict[str, Any], expected: list[str]
) -> None:
    for device in ("cpu", "meta"):
        assert adapter_targets.resolve(make(family, device, **settings), stage()) == expected


@pytest.mark.parametrize("method", ["LoRA", "DoRA"])
@pytest.mark.parametrize(("family", "settings", "_expected"), FAMILIES)
def test_what_is_found_can_be_adapted_trained_and_merged(
    family: str, settings: dict[str, Any], _expected: list[str], method: str
) -> None:
    model = make(family, **settings).eval()
    before = sample_logits(model)
    asked = stage(method=method)
    adapted: PeftModel = add_adapter(model, asked, adapter_targets.resolve(model, asked))
    torch.testing.assert_close(sample_logits(adapted), before, atol=1e-5, rtol=1e-4)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    learned = sample_logits(adapted)  # type: ignore[arg-type]
    assert (learned - before).abs().max() > 1e-3
    torch.testing.assert_close(sample_logits(merge_adapter(adapted)), learned, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("method", ["LoRA", "DoRA"])
def test_an_adapter_is_made_without_weights_as_prepare_does(method: str) -> None:
    model = make("gpt2", "meta", **GPT2)
    asked = stage(method=method)
    unloaded = add_adapter(model, asked, adapter_targets.resolve(model, asked)).unload()
    assert adapter_targets.resolve(unloaded, asked) == ["c_attn", "c_fc", "c_proj"]


def test_names_are_ends_of_names() -> None:
    model = make("llama", **PLAIN)
    assert adapter_targets.resolve(model, stage("v_proj,q_proj,v_proj")) == ["q_proj", "v_proj"]
    assert adapter_targets.resolve(model, stage("layers.0.mlp.up_proj")) == ["layers.0.mlp.up_proj"]


@pytest.mark.parametrize(
    ("family", "settings", "targets", "why"),
    [
        ("llama", PLAIN, "q_proj,W_pack", r"nothing in the model is called W_pack\. Its linear layers are called d"),
        ("llama", PLAIN, "_proj", "nothing in the model is called _proj"),
        ("llama", PLAIN, "q_proj,lm_head", "lm_head is the output layer, and no adapter goes on that.*; Auto takes"),
        ("llama", PLAIN, "embed_tokens", "embed_tokens is a Embedding, and an adapter goes on linear layers"),
        ("llama", PLAIN, "mlp", "mlp is a LlamaMLP"),
        ("mamba", MAMBA, "out_proj", "out_proj of mamba is read past an adapter"),
    ],
)
def test_what_no_adapter_goes_on_is_refused_with_the_reason(
    family: str, settings: dict[str, Any], targets: str, why: str
) -> None:
    with pytest.raises(BadConfig, match=r"^stages\[sft\]\.adapter\.targetModules: " + why):
        adapter_targets.resolve(make(family, "meta", **settings), stage(targets))


def test_auto_without_a_linear_layer_is_refused() -> None:
    model = make("llama", "meta", **PLAIN)
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(BadConfig, match=r"targetModules: Auto finds no linear layer in llama\. Train it without"):
        adapter_targets.resolve(model, stage())


def test_an_end_that_something_else_shares_is_not_used() -> None:
    model = make("llama", "meta", **PLAIN)
    model.model.layers[1].mlp.up_proj = torch.nn.Embedding(2, 2)
    found = adapter_targets.resolve(model, stage())
    assert "up_proj" not in found
    assert "model.layers.0.mlp.up_proj" in found


MIXTURES: list[tuple[str, dict[str, Any]]] = [
    ("mixtral", {}),
    ("qwen2_moe", {}),
    ("qwen3_moe", {}),
    ("gpt_oss", {}),
    ("granitemoe", {}),
    ("llama4_text", LLAMA4),
    ("olmoe", {"eos_token_id": 1}),
    ("glm4_moe", {"n_routed_experts": 4, "n_group": 1, "topk_group": 1}),
    ("ernie4_5_moe", {"moe_num_experts": 4, "moe_k": 2}),
    ("jetmoe", {}),
]


@pytest.mark.parametrize(("family", "settings"), MIXTURES, ids=[name for name, _ in MIXTURES])
def test_an_adapter_on_experts_is_what_it_says_trains_and_merges(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    model = make(family, **PLAIN | EXPERTS | settings).eval()
    originals = {name: weight.detach().clone() for name, weight in fused_experts.tensors(model).items()}
    asked = stage(rankStabilized=True)
    targets = adapter_targets.resolve(model, asked)
    adapted: Any = add_adapter(model, asked, targets)
    assert adapters.targets_of(adapted) == targets
    assert adapter_targets.left_out(adapted, asked) is None
    adapted(input_ids=torch.arange(40).view(2, 20)).logits.square().mean().backward()
    ups = {name: weight for name, weight in adapted.named_parameters() if "lora_B" in name}
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in ups.values())
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in ups.values():
            weight.normal_(std=0.1)
    learned = sample_logits(adapted)
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    torch.manual_seed(0)
    fresh = make(family, **PLAIN | EXPERTS | settings).eval()
    merged = merge_adapter(adapters.load_adapter(fresh, tmp_path))
    torch.testing.assert_close(sample_logits(merged), learned, atol=1e-4, rtol=1e-3)
    for name, weight in merged.named_parameters():
        if name in originals:
            ranks = torch.linalg.matrix_rank(weight.detach() - originals[name], atol=1e-4)
            assert ranks.tolist() == [4] * 4, "each expert has one of its own, of the rank that was asked for"


def test_experts_and_linear_layers_of_one_name_both_get_it() -> None:
    model = make("llama4_text", "meta", **LLAMA4)
    adapted: Any = add_adapter(model, stage("down_proj"), adapter_targets.resolve(model, stage("down_proj")))
    config = adapted.peft_config["default"]
    assert config.target_modules == {"down_proj"}
    assert [name.split(".", 2)[2] for name in config.target_parameters] == [
        f"{n}.feed_forward.experts.down_proj" for n in range(2)
    ]


WITHOUT = [({"dropout": 0.1}, "dropout"), ({"method": "DoRA"}, "DoRA cannot"), ({}, "under ZeRO-3")]


@pytest.mark.parametrize(("adapter", "why"), WITHOUT)
def test_experts_that_cannot_have_an_adapter_are_told_or_refused_by_name(adapter: dict[str, Any], why: str) -> None:
    model = make("qwen3_moe", "meta", **PLAIN | EXPERTS)

    def asked(targets: str) -> Stage:
        made = stage(targets, **adapter)
        return made if adapter else made.model_copy(update={"memory": Memory(zero_stage=3)})

    assert adapter_targets.resolve(model, asked("Auto")) == ATTENTION
    told = adapter_targets.left_out(model, asked("Auto"))
    assert told is not None
    assert told.startswith("down_proj, gate_up_proj hold several matrices in one tensor and get no adapter, since ")
    assert why in told
    adapted = add_adapter(model, asked("Auto"), ATTENTION)
    assert adapter_targets.left_out(adapted, asked("Auto")) == told
    assert adapter_targets.left_out(adapted.unload(), asked("q_proj")) is None
    with pytest.raises(BadConfig, match=f"gate_up_proj holds the weights of all experts in one, and {why}"):
        adapter_targets.resolve(make("qwen3_moe", "meta", **PLAIN | EXPERTS), asked("gate_up_proj"))


def test_a_tensor_that_is_no_experts_stays_and_is_told() -> None:
    model = make("llama", "meta", **PLAIN)
    model.model.layers[0].mlp.mixer = torch.nn.ParameterDict({"weight": torch.zeros(2, 3, 4)})
    told = adapter_targets.left_out(model, stage())
    assert told == "weight hold several matrices in one tensor and get no adapter: they stay as they are"
    with pytest.raises(BadConfig, match=r"mixer\.weight holds several matrices in one tensor, and no adapter goes on"):
        adapter_targets.resolve(model, stage("mixer.weight"))


def test_what_peft_refuses_is_told_with_the_field() -> None:
    with pytest.raises(BadConfig, match=r"^stages\[sft\]\.adapter: LoRA cannot go on act_fn: .*not supported"):
        add_adapter(make("llama", "meta", **PLAIN), stage(), ["act_fn"])
