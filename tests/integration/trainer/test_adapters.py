"""Adapters as a run has them: trained by the loop, written, merged and exported, on a base that is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.integration.trainer.nursery import Nursery
from tests.integration.trainer.test_train import crash
from tests.integration.trainer.test_train_processes import two_processes
from tests.integration.trainer.training import Training, make, sentences
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from slipway_core.protocol import artifact
from slipway_core.resources.stage import Memory
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.model import exported_model, four_bits, logit_check, stage_model, unmerged_artifact
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.step.errors import BadArtifact, BadModel
from slipway_trainer.tokens import tokenizer
from slipway_trainer.training import memory

STAGE: dict[str, Any] = {
    "name": "sft",
    "maxLength": 32,
    "steps": 4,
    "batch": {"sequences": 4},
    "optimizer": {"learningRate": 1e-2},
}


def base(folder: Path, *, tied: bool = True, **config: Any) -> dict[str, Any]:
    """A folder with a model of two layers; returns `model` of a run that starts from it."""
    words = make_tokenizer()
    make_model(words, tie_word_embeddings=tied, **config).save_pretrained(str(folder))
    words.save_pretrained(str(folder))
    return {"from": f"file://{folder}"}


def with_tools(folder: Path) -> dict[str, Any]:
    rows = [{"text": f"{text} <tool>{n % 7}</tool> end"} for n, text in enumerate(sentences(40))]
    (folder / "tools.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"data": {"train": [{"uri": f"file://{folder}/tools.jsonl"}]}}


def rows_of(run: Training, stage: str | None) -> torch.Tensor:
    return stage_model.load_composed(run.plan, run.workspace, stage).get_input_embeddings().weight.detach()


@pytest.mark.parametrize("adapter", [None, {"rank": 4}, {"rank": 4, "modulesToSave": ["embed_tokens"]}])
def test_added_tokens_are_trained_from_the_mean_and_survive_the_export(
    tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    model = base(tmp_path / "base") | {"addTokens": ["<tool>", "</tool>"]}
    settings = STAGE | with_tools(tmp_path) | ({"adapter": adapter} if adapter else {})
    run = make(tmp_path / "run", settings, model=model)
    words = tokenizer.load(run.workspace)
    added = [words.convert_tokens_to_ids("<tool>"), words.convert_tokens_to_ids("</tool>")]
    before = rows_of(run, None)
    original = make_model(make_tokenizer()).get_input_embeddings().weight
    others = original[[row for row in range(len(original)) if row not in added]]
    torch.testing.assert_close(before[added], others.mean(0).expand(2, -1), atol=1e-5, rtol=1e-4)
    run.train("sft")
    after = rows_of(run, "sft")
    moved = set((after[: len(words)] != before[: len(words)]).any(1).nonzero().flatten().tolist())
    assert moved == set(added) if adapter == {"rank": 4} else moved > set(added)
    exported = export.run(run.plan, run.workspace, attempt=1)
    assert exported.artifact is not None
    manifest = artifact.verify(run.workspace.artifact, exported.artifact.digest)
    assert manifest.lineage["tokenizer"] == json.loads(run.workspace.prepared.read_text())["tokenizer"]["digest"]
    judged = exported_model.load(run.workspace.artifact, dtype=torch.float32)
    ids: Any = judged.tokenizer("a <tool>1</tool>", add_special_tokens=False)["input_ids"]
    assert [token for token in ids if token in added] == added
    assert judged.tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "a<tool>1</tool>"
    assert torch.equal(judged.model.get_input_embeddings().weight[added], after[added])


@pytest.mark.parametrize("tied", [True, False])
def test_layers_that_are_trained_whole_are_exported_with_the_adapter(tmp_path: Path, tied: bool) -> None:
    adapter = {"rank": 4, "rankStabilized": True, "modulesToSave": ["lm_head"]}
    run = make(tmp_path / "run", STAGE | {"adapter": adapter}, model=base(tmp_path / "base", tied=tied))
    before = stage_model.load_composed(run.plan, run.workspace, None).state_dict()
    run.train("sft")
    assert run.losses("sft")[-1] < run.losses("sft")[0]
    after = stage_model.load_final(run.plan, run.workspace)
    assert (after.get_input_embeddings().weight is after.get_output_embeddings().weight) is tied
    moved = {name for name, weight in after.state_dict().items() if not torch.equal(weight, before[name])}
    assert ("lm_head.weight" in moved, "model.embed_tokens.weight" in moved) == (True, tied)
    assert "model.norm.weight" not in moved
    export.run(run.plan, run.workspace, attempt=1)
    assert artifact.verify(run.workspace.artifact)


def test_rows_of_the_embedding_alone_are_trained_beside_an_output_layer_that_is_trained_whole(tmp_path: Path) -> None:
    model = base(tmp_path / "base", tied=False) | {"addTokens": ["<tool>"]}
    settings = STAGE | with_tools(tmp_path) | {"adapter": {"rank": 4, "modulesToSave": ["lm_head"]}}
    run = make(tmp_path / "run", settings, model=model)
    before = stage_model.load_composed(run.plan, run.workspace, None).state_dict()
    run.train("sft")
    after = stage_model.load_final(run.plan, run.workspace).state_dict()
    rows, outputs = "model.embed_tokens.weight", "lm_head.weight"
    added = tokenizer.load(run.workspace).convert_tokens_to_ids("<tool>")
    assert (after[rows] != before[rows]).any(1).nonzero().flatten().tolist() == [added]
    assert int((after[outputs] != before[outputs]).any(1).sum()) > 100


QLORA = {"adapter": {"method": "QLoRA", "rank": 4}}


def test_a_base_in_4_bits_is_trained_on_merged_and_the_drift_is_told(tmp_path: Path) -> None:
    run = make(tmp_path / "run", STAGE | QLORA, model=base(tmp_path / "base"), checkpoints={"everySteps": 2})
    crash(run, at=3, stage="sft")
    run.train("sft", attempt=2)
    assert run.losses("sft")[-1] < run.losses("sft")[0]
    undisturbed = make(tmp_path / "again", STAGE | QLORA, model={"from": f"file://{tmp_path}/base"})
    undisturbed.train("sft")
    assert run.losses("sft") == undisturbed.losses("sft"), "it goes on bit for bit"
    export.run(run.plan, run.workspace, attempt=1)
    drift = artifact.verify(run.workspace.artifact).lineage["merge_drift"]
    assert drift["stage"] == "sft"
    assert 0 < drift["largest_difference"] < 1e-4 * drift["largest_logit"], (
        "in fp32 the merge is exact but for rounding"
    )


def test_stages_before_and_after_one_in_4_bits_stand_on_what_it_trained(tmp_path: Path) -> None:
    full = STAGE | {"name": "full", "steps": 2, "precision": "BF16"}
    last = STAGE | {"name": "last", "steps": 1, "optimizer": {"learningRate": 1e-9, "weightDecay": 0}}
    run = make(tmp_path / "run", full, STAGE | QLORA, last, model=base(tmp_path / "base"))
    for name in ("full", "sft", "last"):
        run.train(name)
    trained = stage_model.load_as_trained(run.plan, run.workspace, "sft", dtype=torch.float32)
    after = stage_model.load_composed(run.plan, run.workspace, "last")
    wanted = logit_check.sample_logits(trained)  # type: ignore[arg-type]
    torch.testing.assert_close(logit_check.sample_logits(after), wanted, atol=1e-4, rtol=1e-3)
    export.run(run.plan, run.workspace, attempt=1)
    assert "merge_drift" not in artifact.verify(run.workspace.artifact).lineage, "the last stage has learned on"


def test_a_base_in_4_bits_is_not_held_in_pieces(tmp_path: Path) -> None:
    run = make(tmp_path / "run", STAGE | QLORA | {"memory": {"zeroStage": 2}}, model=base(tmp_path / "base"))
    run.train("sft")
    plain = make(tmp_path / "plain", STAGE | QLORA, model={"from": f"file://{tmp_path}/base"})
    plain.train("sft")
    assert run.losses("sft") == pytest.approx(plain.losses("sft"), abs=1e-5)
    size = memory.ModelSize(10**9, 10**6, 2, 64, 128, 400, four_bit_weights=10**9, in_one_piece="it is of 4 bits")
    machine = memory.Machine("cpu", 10**8, 4)
    choice = memory.choose(size, run.plan.stage("sft").model_copy(update={"memory": Memory()}), "FP32", machine, 4)
    assert choice.zero_stage == 2
    assert "it is of 4 bits" in choice.reasons["zeroStage"]


PROMPTS = ["Prefix", "PromptTuning", "PTuning"]


def prompted(method: str, **settings: Any) -> dict[str, Any]:
    return STAGE | {"steps": 12, "adapter": {"method": method, "virtualTokens": 5}} | settings


def judged_alone(run: Training) -> ExportedModel:
    return unmerged_artifact.load(run.plan, run.workspace.artifact, run.workspace.fetched_models, dtype=torch.float32)


@pytest.mark.parametrize("method", PROMPTS)
def test_virtual_tokens_are_trained_resumed_exported_and_judged(tmp_path: Path, method: str) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text("".join(json.dumps({"text": f"the quiet harbour {n} sleeps"}) + "\n" for n in range(4)))
    evaluation = {"data": [{"uri": f"file://{held}"}], "maxNewTokens": 6}
    model = base(tmp_path / "base")
    run = make(tmp_path / "run", prompted(method), model=model, checkpoints={"everySteps": 5}, evaluation=evaluation)
    crash(run, at=8, stage="sft")
    run.train("sft", attempt=2)
    undisturbed = make(tmp_path / "again", prompted(method), model=model)
    undisturbed.train("sft")
    assert run.losses("sft") == undisturbed.losses("sft"), "it goes on bit for bit"
    decided = json.loads(run.folder("sft").resolved.read_text())
    assert (decided["packed"], decided["gradient_checkpointing"]) == (False, False)
    assert decided["reasons"]["packing"] == "5 virtual tokens stand in front of each document"
    export.run(run.plan, run.workspace, attempt=1)
    manifest = artifact.verify(run.workspace.artifact)
    assert not any(name.startswith(("model", "base/")) for name in manifest.files)
    assert manifest.lineage["adapter"]["base"]["digest"] == manifest.lineage["base"]["digest"]
    judged = judged_alone(run)
    plain = PeftModel.from_pretrained(
        stage_model.load_folder(tmp_path / "base", dtype=torch.float32), str(run.workspace.artifact)
    )
    ids = torch.arange(30, 42)[None]
    with torch.no_grad():
        wanted = plain(input_ids=ids).logits[:, -12:]
        torch.testing.assert_close(judged.model(input_ids=ids).logits, wanted, atol=1e-5, rtol=1e-5)
        without = stage_model.load_folder(tmp_path / "base", dtype=torch.float32)(input_ids=ids).logits
    assert (wanted - without).abs().max() > 1e-3
    result = evaluate.run(run.plan, run.workspace, attempt=1)
    assert result.metrics["perplexity"] > 1


UNMERGED = {"export": {"mergeAdapter": False}}


@pytest.mark.parametrize("method", ["LoRA", "DoRA", "QLoRA"])
def test_an_adapter_alone_loads_by_peft_on_a_fresh_base_of_its_digest(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = {"adapter": {"method": method, "rank": 4}}
    run = make(tmp_path / "run", STAGE | adapter, model=base(tmp_path / "base"), **UNMERGED)
    run.train("sft")
    # Room for the adapter and none for its base, which is not written.
    room = export.SPARE_BYTES + (run.folder("sft").adapter / "adapter_model.safetensors").stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=room))
    export.run(run.plan, run.workspace, attempt=1)
    manifest = artifact.verify(run.workspace.artifact)
    adapted = PeftModel.from_pretrained(
        stage_model.load_folder(tmp_path / "base", dtype=torch.float32), str(run.workspace.artifact)
    )
    assert manifest.metrics["parameters"] == sum(weight.numel() for weight in adapted.parameters())
    files = manifest.files
    assert {"adapter_config.json", "adapter_model.safetensors", "base.json", "tokenizer.json"} <= files.keys()
    assert "model.safetensors" not in files
    assert str(tmp_path) not in (run.workspace.artifact / "base.json").read_text(), "the digest is of no one machine"
    judged = logit_check.sample_logits(judged_alone(run).model)
    fresh = stage_model.load_folder(tmp_path / "base", dtype=torch.float32)
    if method == "QLoRA":
        four_bits.round_trip(fresh, run.plan.stage("sft"))
    plain: Any = PeftModel.from_pretrained(fresh, str(run.workspace.artifact))
    torch.testing.assert_close(logit_check.sample_logits(plain), judged, atol=1e-4, rtol=1e-4)
    config = tmp_path / "base" / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(BadArtifact, match="is not the base that the adapter was trained on: it has the digest sha256:"):
        judged_alone(run)
    with pytest.raises(BadModel, match=r"is an adapter without its base\. Train with export\.mergeAdapter: true"):
        stage_model.load_folder(run.workspace.artifact, dtype=torch.float32)


def test_a_base_that_lies_nowhere_else_lies_beside_its_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = base(tmp_path / "base") | {"addTokens": ["<tool>"]}
    settings = STAGE | with_tools(tmp_path) | {"adapter": {"rank": 4}}
    full = STAGE | {"name": "full", "steps": 1}
    for name, stages in (("rows", [settings]), ("stage", [full, settings])):
        run = make(tmp_path / name, *stages, model=model, **UNMERGED)
        for stage in stages:
            run.train(stage["name"])
        export.run(run.plan, run.workspace, attempt=1)
        folder = run.workspace.artifact
        assert artifact.verify(folder).lineage["adapter"]["base"] == {"folder": "base"}
        plain: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(folder / "base")), str(folder))
        merged = stage_model.load_final(run.plan, run.workspace)
        torch.testing.assert_close(
            logit_check.sample_logits(plain), logit_check.sample_logits(merged), atol=1e-4, rtol=1e-3
        )
    monkeypatch.chdir(run.workspace.artifact)
    code = (run.workspace.artifact / artifact.CARD).read_text().partition("```python\n")[2].partition("```")[0]
    exec(compile(code, "card", "exec"), found := {})
    assert isinstance(found["model"], PeftModel)


def mixture(folder: Path) -> dict[str, Any]:
    """A mixture whose experts are one tensor a layer."""
    words = make_tokenizer()
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=448, hidden_size=64, intermediate_size=64, moe_intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, num_experts=4, num_experts_per_tok=2,
        max_position_embeddings=128, initializer_range=0.1, pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).save_pretrained(str(folder))
    words.save_pretrained(str(folder))
    return {"from": f"file://{folder}"}


@pytest.mark.parametrize("method", ["LoRA", "QLoRA"])
def test_experts_are_trained_resumed_and_exported_however_they_fit(tmp_path: Path, method: str) -> None:
    model, adapter = mixture(tmp_path / "base"), {"adapter": {"method": method, "rank": 4}}
    plain = make(tmp_path / "plain", STAGE | adapter, model=model, checkpoints={"everySteps": 2})
    crash(plain, at=3, stage="sft")
    plain.train("sft", attempt=2)
    decided = json.loads(plain.folder("sft").resolved.read_text())
    assert decided["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "experts.down_proj", "experts.gate_up_proj"]
    )
    undisturbed = make(tmp_path / "undisturbed", STAGE | adapter, model=model)
    undisturbed.train("sft")
    assert plain.losses("sft") == undisturbed.losses("sft"), "it goes on bit for bit"
    tight = {
        "memory": {"zeroStage": 2, "gradientCheckpointing": "Enabled"},
        "batch": {"sequences": 4, "microSequences": 1},
    }
    other = make(tmp_path / "tight", STAGE | adapter | tight, model=model)
    other.train("sft")
    assert other.losses("sft") == pytest.approx(plain.losses("sft"), abs=1e-5)
    before = stage_model.load_composed(plain.plan, plain.workspace, None).state_dict()
    after = stage_model.load_final(plain.plan, plain.workspace).state_dict()
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert {f"model.layers.{n}.mlp.experts.{part}" for n in range(2) for part in ("down_proj", "gate_up_proj")} <= moved
    assert "model.layers.0.mlp.gate.weight" not in moved
    export.run(plain.plan, plain.workspace, attempt=1)
    assert artifact.verify(plain.workspace.artifact)


@pytest.mark.parametrize("zero", [0, 3])
def test_a_tied_pair_that_is_trained_whole_goes_on_as_one(tmp_path: Path, zero: int) -> None:
    adapter = {"adapter": {"rank": 4, "modulesToSave": ["embed_tokens"]}, "memory": {"zeroStage": zero}}
    run = make(tmp_path / "run", STAGE | adapter, model=base(tmp_path / "base"), checkpoints={"everySteps": 2})
    crash(run, at=3, stage="sft")
    run.train("sft", attempt=2)
    undisturbed = make(tmp_path / "again", STAGE | adapter, model={"from": f"file://{tmp_path}/base"})
    undisturbed.train("sft")
    assert run.losses("sft") == undisturbed.losses("sft")
    after = stage_model.load_final(run.plan, run.workspace)
    assert after.get_input_embeddings().weight is after.get_output_embeddings().weight
    assert not torch.equal(after.get_input_embeddings().weight, rows_of(run, None))


IN_TWO: dict[str, tuple[dict[str, Any], int]] = {
    "whole": ({"rank": 4, "modulesToSave": ["lm_head"]}, 3),
    "qlora": ({"method": "QLoRA", "rank": 4}, 1),
    "prefix": ({"method": "Prefix", "virtualTokens": 5}, 0),
    "prompt": ({"method": "PromptTuning", "virtualTokens": 5}, 2),
    "encoder": ({"method": "PTuning", "virtualTokens": 5}, 1),
    "experts": ({"rank": 4}, 2),
}


@pytest.mark.slow
def test_two_processes_learn_with_each_method_what_one_learns(ranks: Nursery, tmp_path: Path) -> None:
    models = {"experts": mixture(tmp_path / "mixture")}
    plain = base(tmp_path / "base")
    # Three rows a step: the second process has one micro batch less to do, and does an empty one.
    odd = STAGE | {"name": "pretrain", "batch": {"sequences": 3, "microSequences": 1}}

    def made(where: str, name: str, zero: Any) -> Training:
        settings = odd | {"adapter": IN_TWO[name][0], "memory": {"zeroStage": zero}}
        return make(tmp_path / where / name, settings, model=models.get(name, plain))

    both = {name: made("both", name, zero) for name, (_, zero) in IN_TWO.items()}
    two_processes(ranks, tmp_path / "store", *both.values())
    for name, run in both.items():
        alone = made("alone", name, "Auto")
        alone.train()
        assert run.losses() == pytest.approx(alone.losses(), abs=1e-5), name
        saved = [load_file(one.folder().adapter / "adapter_model.safetensors") for one in (run, alone)]
        assert saved[0].keys() == saved[1].keys()
        for weight, expected in zip(saved[0].values(), saved[1].values(), strict=True):
            torch.testing.assert_close(weight, expected, atol=1e-4, rtol=1e-3)
