"""What is refused before any data is read: told from the plan and the description of the base model."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer.plans_of_data import causal, plan
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from transformers import AutoConfig

from slipway_core.protocol.variables import PLAN_DIGEST_VARIABLE
from slipway_core.resources.training_run import Serving
from slipway_trainer.prepare import preflight
from slipway_trainer.step import packages
from slipway_trainer.step.errors import BadConfig, BadModel

GPT2 = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
MOE = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 1, "num_experts": 4, "moe_intermediate_size": 32}

LLAMA = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1,
}  # fmt: skip


def check(
    folder: Path, family: str | None, targets: str, *, adapter: dict[str, Any] | None = None, **settings: Any
) -> list[str]:
    """Looks at a run whose second stage has an adapter. Returns what is said."""
    model = None
    if family:
        AutoConfig.for_model(family, **settings).save_pretrained(str(folder))
        model = {"from": f"file://{folder}"}
    uri = "file:///nowhere.jsonl"
    adapted = causal(uri, name="second") | {"adapter": {"targetModules": targets} | (adapter or {})}
    made, said = plan(causal(uri), adapted, model=model), []
    preflight.check(made, folder if family else None, said.append)
    return said


@pytest.mark.parametrize(
    ("family", "settings", "why"),
    [
        ("gpt2", GPT2, "the model is a gpt2, and llama, mistral, qwen2 can be written as GGUF"),
        ("llama", {"vocab_size": 96, "attention_bias": True}, "the model has attention_bias"),
        ("qwen2", {"vocab_size": 96}, None),
    ],
)
def test_a_model_that_cannot_be_a_gguf_file_is_refused_before_it_is_trained(
    tmp_path: Path, family: str, settings: dict[str, Any], why: str | None
) -> None:
    AutoConfig.for_model(family, **settings).save_pretrained(str(tmp_path))
    made = plan(causal("file:///nowhere.jsonl"), model={"from": f"file://{tmp_path}"})
    made = made.model_copy(update={"export": made.export.model_copy(update={"gguf": "Q8_0"})})
    if why is None:
        preflight.check(made, tmp_path, print)
        return
    with pytest.raises(BadConfig, match=rf"^export\.gguf: {why}"):
        preflight.check(made, tmp_path, print)


@pytest.mark.parametrize(
    ("family", "wanted", "settings", "why"),
    [
        ("gpt2", "INT8", GPT2, "the model \\(a gpt2\\) has no linear layers"),
        ("qwen3_moe", "FP8", MOE, "the model has 4 experts a layer"),
        ("llama", "INT4", LLAMA | {"intermediate_size": 48}, "the layer model.layers.0.mlp.gate_proj has 48 outputs"),
        ("llama", "INT4", LLAMA, None),
    ],
)
def test_a_model_that_cannot_be_quantised_is_refused_before_it_is_trained(
    tmp_path: Path, family: str, wanted: str, settings: dict[str, Any], why: str | None
) -> None:
    AutoConfig.for_model(family, **settings).save_pretrained(str(tmp_path))
    made = plan(causal("file:///nowhere.jsonl"), model={"from": f"file://{tmp_path}"})
    made = made.model_copy(update={"export": made.export.model_copy(update={"quantization": wanted})})
    if why is None:
        preflight.check(made, tmp_path, print)
        return
    with pytest.raises(BadConfig, match=rf"^export\.quantization: {wanted}: {why}"):
        preflight.check(made, tmp_path, print)


@pytest.mark.parametrize("pod", [False, True])
@pytest.mark.parametrize(("wanted", "lacks"), [("INT4", "AVX-512"), ("INT8", "VNNI")])
def test_weights_that_this_machine_could_not_serve_are_refused_where_it_would_have_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, lacks: str, pod: bool
) -> None:
    AutoConfig.for_model("llama", **LLAMA).save_pretrained(str(tmp_path))
    made = plan(causal("file:///nowhere.jsonl"), model={"from": f"file://{tmp_path}"})
    quantised = made.export.model_copy(update={"quantization": wanted})
    made = made.model_copy(update={"export": quantised, "serving": Serving(endpoint="chat")})
    monkeypatch.setattr(preflight.processor, "flags", lambda: {"avx2"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if pod:
        monkeypatch.setenv(PLAN_DIGEST_VARIABLE, "sha256:0")
        preflight.check(made, tmp_path, print)
        return
    with pytest.raises(
        BadConfig, match=rf"^export\.quantization: {wanted}: this machine, .*, has not {lacks}, .* Use FP8"
    ):
        preflight.check(made, tmp_path, print)
    preflight.check(made.model_copy(update={"serving": None}), tmp_path, print)


@pytest.mark.parametrize(("family", "targets"), [("gpt2", "Auto"), ("gpt2", "attn.c_attn"), (None, "q_proj,up_proj")])
def test_what_an_adapter_can_go_on_passes_in_silence(tmp_path: Path, family: str | None, targets: str) -> None:
    assert check(tmp_path, family, targets, **GPT2) == []


@pytest.mark.parametrize(
    ("family", "targets", "why"),
    [
        ("gpt2", "q_proj", r"stages\[second\].*: nothing in the model is called q_proj\. .*c_attn, c_fc, c_proj"),
        ("gpt2", "lm_head", "lm_head is the output layer"),
        (None, "lm_head", "lm_head is the output layer"),
        (None, "W_pack", r"nothing in the model is called W_pack\. .*gate_proj"),
    ],
)
def test_what_it_cannot_go_on_is_refused_before_the_first_stage(
    tmp_path: Path, family: str | None, targets: str, why: str
) -> None:
    with pytest.raises(BadConfig, match=why):
        check(tmp_path, family, targets, **GPT2)


def test_experts_that_stay_as_they_are_are_said(tmp_path: Path) -> None:
    assert check(tmp_path / "LoRA", "qwen3_moe", "Auto", **MOE) == []
    (said,) = check(tmp_path / "DoRA", "qwen3_moe", "Auto", adapter={"method": "DoRA"}, **MOE)
    assert said.startswith(
        "stages[second].adapter: down_proj, gate_up_proj hold several matrices in one tensor and get"
    )


def test_what_qlora_does_not_hold_in_4_bits_is_said(tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "moe_intermediate_size": 64, "intermediate_size": 64, "num_attention_heads": 2}
    (said,) = check(
        tmp_path / "moe", "qwen3_moe", "Auto", adapter={"method": "QLoRA"}, **MOE | sizes | {"head_dim": 32}
    )
    assert said.startswith("stages[second].adapter.method: QLoRA: down_proj, gate_up_proj hold several matrices in one")
    assert said.endswith("% of the weights stay as they are")
    dense = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    assert check(tmp_path / "dense", "llama", "Auto", adapter={"method": "QLoRA"}, **dense) == []


@pytest.mark.parametrize(
    ("adapted", "why"), [(True, r"the adapter of stages\[second\] cannot"), (False, "such cannot")]
)
def test_a_base_that_is_quantised_already_is_refused(tmp_path: Path, adapted: bool, why: str) -> None:
    quantized = {"quant_method": "gptq", "bits": 4}
    AutoConfig.for_model("gpt2", **GPT2, quantization_config=quantized).save_pretrained(str(tmp_path))
    stage = causal("file:///x", name="second") | ({"adapter": {}} if adapted else {})
    with pytest.raises(BadModel, match=rf"quantised already \(gptq; .*{why}.*Take the model that it was made of"):
        preflight.check(plan(stage, model={"from": f"file://{tmp_path}"}), tmp_path, print)


def test_8_bits_without_bitsandbytes_are_refused_before_data_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(causal("file:///nowhere.jsonl") | {"optimizer": {"name": "AdamW8bit"}})
    preflight.check(made, None, print)
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    wanted = r"stages\[0\] \(.*\): optimizer.name: AdamW8bit needs bitsandbytes, which is not installed: .*use AdamW"
    with pytest.raises(BadConfig, match=wanted):
        preflight.check(made, None, print)


def test_a_description_of_no_model_is_refused(tmp_path: Path) -> None:
    AutoConfig.for_model("gpt2", **GPT2).save_pretrained(str(tmp_path))
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"gpt2"', '"gpt2000"'))
    made = plan(causal("file:///x") | {"adapter": {}}, model={"from": f"file://{tmp_path}"})
    with pytest.raises(BadModel, match=r"model\.from: .*cannot be loaded: .*gpt2000"):
        preflight.check(made, tmp_path, print)


@pytest.mark.parametrize(("method", "refused"), [("Prefix", True), ("PromptTuning", True), ("PTuning", False)])
def test_muon_is_refused_where_an_adapter_has_no_matrix(method: str, refused: bool) -> None:
    stage = causal("file:///x") | {"adapter": {"method": method}, "optimizer": {"name": "Muon"}}
    if not refused:
        preflight.check(plan(stage), None, print)
        return
    with pytest.raises(BadConfig, match=rf"optimizer.name: Muon is for matrices, and {method} trains none"):
        preflight.check(plan(stage), None, print)


def test_a_base_of_pickles_alone_is_refused_with_the_conversion_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = make_tokenizer()
    base, model = tmp_path / "a base", make_model(words)
    model.config.save_pretrained(str(base))
    words.save_pretrained(str(base))
    torch.save(model.state_dict(), base / "pytorch_model.bin")
    made = plan(causal("file:///x", max_length=64), model={"from": f"file://{base}"})
    with pytest.raises(BadModel, match=r"holds no .* but pytorch_model\.bin, which can run code") as caught:
        preflight.check(made, base, print)
    command = str(caught.value).partition("convert it (")[2].rpartition("), and name")[0]
    monkeypatch.chdir(tmp_path)
    _, _, code = shlex.split(command)
    exec(code)
    preflight.check(made, tmp_path / "converted", print)
    assert (tmp_path / "converted" / "model.safetensors").is_file()
