"""An artifact is complete or absent, is what was trained, and has a digest that only its content decides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer.trained_run import TrainedRun, make_run

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.resources.training_run import Export
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.model import exported_model, logit_check, stage_model
from slipway_trainer.model.logit_check import sample_logits
from slipway_trainer.model.model_files import write_model
from slipway_trainer.step.errors import BadModel, NoSpace, Superseded
from slipway_trainer.step.fence import Fence
from slipway_trainer.tokens import tokenizer


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    run = make_run(tmp_path_factory.mktemp("run"))
    run.end_stage()
    return run


@pytest.fixture
def run(prepared: TrainedRun) -> Any:
    yield prepared
    for folder in prepared.workspace.root.glob("artifact*"):
        shutil.rmtree(folder)
    prepared.workspace.fence("export").unlink(missing_ok=True)
    prepared.workspace.stage("pretrain").resolved.unlink(missing_ok=True)


def test_the_artifact_is_whole_and_computes_what_the_trained_model_computes(run: TrainedRun) -> None:
    result = export.run(run.plan, run.workspace, attempt=1)
    assert result.artifact is not None
    assert result.artifact.uri == f"file://{run.workspace.artifact}"
    manifest = artifact.verify(run.workspace.artifact, result.artifact.digest)
    loaded = exported_model.load(run.workspace.artifact, dtype=torch.float32)
    trained = stage_model.load_final(run.plan, run.workspace)
    assert torch.equal(sample_logits(loaded.model), sample_logits(trained))
    assert loaded.tokenizer.chat_template == tokenizer.load(run.workspace).chat_template
    assert manifest.run == "tiny"
    assert manifest.plan_digest == run.plan.digest
    assert manifest.data.keys() == {"pretrain/train"}
    assert manifest.metrics["pretrain/loss"] == 1.5
    assert manifest.lineage["base"]["scratch"]["maxLength"] == 128
    assert manifest.lineage["dtype"] == "float32"
    assert manifest.lineage["libraries"].keys() >= {"torch", "transformers"}
    assert [path.name for path in run.workspace.root.glob("artifact*")] == ["artifact"]


def test_the_same_weights_have_the_same_digest_wherever_and_whenever_they_are_exported(
    run: TrainedRun, tmp_path: Path
) -> None:
    first = export.run(run.plan, run.workspace, attempt=1).artifact
    shutil.rmtree(run.workspace.artifact)
    second = export.run(run.plan, run.workspace, attempt=2).artifact
    words = tokenizer.from_folder(run.workspace.tokenizer, "here")
    write_model(stage_model.load_final(run.plan, run.workspace), words, tmp_path / "elsewhere")
    shutil.copy(run.workspace.passages, tmp_path / "elsewhere")
    assert first is not None
    assert second is not None
    assert first.digest == second.digest == artifact.digest_of(artifact.hash_folder(tmp_path / "elsewhere"))
    for path in run.workspace.artifact.glob("*.json"):
        if path.name != artifact.MANIFEST:
            assert str(run.workspace.root.parent) not in path.read_text(encoding="utf-8")


def test_an_attempt_that_finds_a_whole_artifact_keeps_it(run: TrainedRun) -> None:
    first = export.run(run.plan, run.workspace, attempt=1)
    written = (run.workspace.artifact / "model.safetensors").stat().st_mtime_ns
    second = export.run(run.plan, run.workspace, attempt=2)
    assert first.artifact == second.artifact
    assert (run.workspace.artifact / "model.safetensors").stat().st_mtime_ns == written


def test_a_damaged_artifact_is_written_again(run: TrainedRun) -> None:
    first = export.run(run.plan, run.workspace, attempt=1)
    weights = run.workspace.artifact / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + b"\1" * 8)
    second = export.run(run.plan, run.workspace, attempt=2)
    assert second.artifact == first.artifact
    artifact.verify(run.workspace.artifact)


def test_an_artifact_of_other_weights_is_replaced(run: TrainedRun) -> None:
    first = export.run(run.plan, run.workspace, attempt=1).artifact
    done = run.workspace.stage("pretrain").done
    before = done.read_text(encoding="utf-8")
    try:
        shutil.rmtree(run.workspace.stage("pretrain").model)
        run.end_stage(run.model(seed=5))
        done.write_text(before.replace("0" * 64, "1" * 64), encoding="utf-8")
        second = export.run(run.plan, run.workspace, attempt=2).artifact
    finally:
        shutil.rmtree(run.workspace.stage("pretrain").model)
        run.end_stage()
    assert first is not None
    assert second is not None
    assert first.digest != second.digest
    artifact.verify(run.workspace.artifact, second.digest)


@pytest.mark.parametrize("moment", ["save_pretrained", "check_written", "build", "sync_tree", "rename"])
def test_killed_at_any_moment_and_started_again_it_ends_the_same(
    run: TrainedRun, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    expected = export.run(run.plan, run.workspace, attempt=1).artifact
    shutil.rmtree(run.workspace.artifact)

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "save_pretrained":
            patch.setattr(tokenizer, "save", die)
        elif moment == "check_written":
            patch.setattr(logit_check, moment, die)
        elif moment == "build":
            patch.setattr(artifact, "build", die)
        elif moment == "rename":
            patch.setattr(Path, "rename", die)
        else:
            patch.setattr(export, moment, die)
        with pytest.raises(Killed):
            export.run(run.plan, run.workspace, attempt=2)
    assert not run.workspace.artifact.exists()
    assert export.run(run.plan, run.workspace, attempt=3).artifact == expected
    assert [path.name for path in run.workspace.root.glob("artifact*")] == ["artifact"]


def test_a_superseded_attempt_publishes_nothing(run: TrainedRun) -> None:
    Fence(run.workspace.fence("export"), 7).raise_()
    with pytest.raises(Superseded):
        export.run(run.plan, run.workspace, attempt=6)
    assert not run.workspace.artifact.exists()


def test_what_was_trained_in_bfloat16_is_written_in_bfloat16(run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    in_float32 = export.run(run.plan, run.workspace, attempt=1)
    monkeypatch.setattr(export, "_dtype", lambda *_: torch.bfloat16)
    shutil.rmtree(run.workspace.artifact)
    result = export.run(run.plan, run.workspace, attempt=2)
    assert json.loads((run.workspace.artifact / "config.json").read_text())["dtype"] == "bfloat16"
    assert artifact.read(run.workspace.artifact).lineage["dtype"] == "bfloat16"
    assert result.metrics["bytes"] < in_float32.metrics["bytes"]


@pytest.mark.parametrize(
    ("precision", "dtype"), [("BF16", torch.bfloat16), ("FP16", torch.float32), ("FP32", torch.float32)]
)
def test_the_dtype_follows_the_precision_that_was_trained_in(
    run: TrainedRun, precision: str, dtype: torch.dtype
) -> None:
    decided: dict[str, Any] = {
        "precision": precision, "zero_stage": 0, "micro_batch": 1, "gradient_checkpointing": False,
        "attention": "sdpa", "target_modules": None, "world_size": 1, "sequences": 1, "total_rows": 1,
        "total_steps": 1, "data_digest": "",
    }  # fmt: skip
    run.workspace.stage("pretrain").resolved.write_text(json.dumps(decided))
    assert export._dtype(run.plan, run.workspace) == dtype


def test_a_stage_that_has_not_ended_is_named(run: TrainedRun) -> None:
    done = run.workspace.stage("pretrain").done
    text = done.read_text()
    done.unlink()
    try:
        with pytest.raises(BadModel, match="stage pretrain has not ended"):
            export.run(run.plan, run.workspace, attempt=1)
    finally:
        done.write_text(text)


def test_a_full_disk_is_noticed_before_anything_is_written(run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "SPARE_BYTES", 1 << 60)
    with pytest.raises(NoSpace, match="MiB are free"):
        export.run(run.plan, run.workspace, attempt=1)
    assert not list(run.workspace.root.glob("artifact*"))


def test_a_gguf_file_lies_beside_the_artifact_and_is_told_where(run: TrainedRun) -> None:
    plain = export.run(run.plan, run.workspace, attempt=1)
    assert plain.progress is None
    assert not run.workspace.gguf.exists()
    plan = run.plan.model_copy(update={"export": run.plan.export.model_copy(update={"gguf": "F16"})})
    try:
        result = export.run(plan, run.workspace, attempt=2)
        assert result.artifact == plain.artifact, "what is judged and served does not change"
        assert result.progress is not None
        assert result.progress.links == {"gguf": f"file://{run.workspace.gguf.resolve()}"}
        assert {path.name for path in run.workspace.gguf.iterdir()} == {"model.gguf", "Modelfile", "gguf.json"}
        assert 'TEMPLATE """' in (run.workspace.gguf / "Modelfile").read_text()
    finally:
        shutil.rmtree(run.workspace.gguf, ignore_errors=True)


def quantised(plan: Plan, wanted: str) -> Plan:
    """The plan of another run, with a digest of its own."""
    other = "sha256:" + wanted.encode().hex().ljust(64, "0")
    return plan.model_copy(update={"digest": other, "export": Export.model_validate({"quantization": wanted})})


@pytest.mark.parametrize("wanted", ["INT8", "INT4", "FP8"])
def test_a_quantised_artifact_is_what_is_published_and_says_what_it_is(run: TrainedRun, wanted: str) -> None:
    plain = export.run(run.plan, run.workspace, attempt=1).artifact
    again = quantised(run.plan, wanted)
    first = export.run(again, run.workspace, attempt=2).artifact
    assert plain is not None
    assert first is not None
    assert first.digest != plain.digest
    manifest = artifact.verify(run.workspace.artifact, first.digest)
    told = manifest.lineage["quantization"]
    assert (told["method"], told["layers"], told["left_as_is"]) == (wanted, 14, ["lm_head"])
    assert told["bytes"]["after"] == (run.workspace.artifact / "model.safetensors").stat().st_size
    assert told["bytes"]["after"] < told["bytes"]["before"]
    assert 0 < told["divergence"] < 2
    config = json.loads((run.workspace.artifact / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    assert f"its linear layers in {wanted}" in (run.workspace.artifact / "README.md").read_text()
    assert [path.name for path in run.workspace.root.glob("artifact*")] == ["artifact"]
    shutil.rmtree(run.workspace.artifact)
    second = export.run(again, run.workspace, attempt=3).artifact
    assert second is not None
    assert second.digest == first.digest


def test_an_evaluation_measures_the_quantised_model(run: TrainedRun) -> None:
    export.run(run.plan, run.workspace, attempt=1)
    plain = evaluate.run(run.plan, run.workspace, attempt=1)
    again = quantised(run.plan, "INT4")
    # vLLM has tests of its own.
    again = again.model_copy(update={"evaluation": again.evaluation.model_copy(update={"engine": "Transformers"})})
    export.run(again, run.workspace, attempt=2)
    rounded = evaluate.run(again, run.workspace, attempt=2)
    assert 0.001 < abs(rounded.metrics["bits_per_byte"] / plain.metrics["bits_per_byte"] - 1) < 0.5
    report = json.loads(run.workspace.report(2).read_text())
    assert report["artifact"]["quantization"]["method"] == "INT4"
    assert report["candidate"]["engine"] == "Transformers"
    assert report["candidate"]["engine_why"] == "evaluation.engine asks for it"
