"""A run without stages takes the model as it is, says what it was, and judges it on what it has not learned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer.own_model import own_model
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from tests.unit.trainer.trained_run import HELD_OUT, TRAINING, TrainedRun, make_run

from slipway_core.protocol import artifact
from slipway_core.protocol.preview import Preview
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.model import exported_model
from slipway_trainer.prepare import prepare
from slipway_trainer.preview import preview
from slipway_trainer.preview.beside import Beside
from slipway_trainer.preview.preview import Wanted
from slipway_trainer.step.errors import BadModel, NoSpace, Overlap

LONG = "".join(TRAINING)
"""A document that the model of the fixture has learned, long enough to be looked up."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run that has trained a model on LONG."""
    return make_run(tmp_path_factory.mktemp("first"), more=[LONG]).export()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of somebody else, in bfloat16, with a picture beside it and no template."""
    folder = tmp_path_factory.mktemp("foreign") / "model"
    words = make_tokenizer()
    words.chat_template = None
    make_model(words, seed=5).to(torch.bfloat16).save_pretrained(str(folder))
    words.save_pretrained(str(folder))
    (folder / "picture.png").write_bytes(b"none")
    return folder


def test_an_artifact_is_taken_whole_and_keeps_its_digest(trained: TrainedRun, tmp_path: Path) -> None:
    before = artifact.read(trained.workspace.artifact)
    run = own_model(tmp_path, trained.workspace.artifact)
    result = export.run(run.plan, run.workspace, attempt=1)
    assert result.artifact is not None
    assert result.artifact.digest == before.digest
    after = artifact.verify(run.workspace.artifact)
    assert after.lineage["base"]["was"] == {
        "run": "tiny", "plan_digest": trained.plan.digest, "digest": before.digest,
    }  # fmt: skip
    assert after.lineage["passages"] == before.lineage["passages"]
    assert (after.run, after.plan_digest, after.lineage["stages"]) == ("judged", run.plan.digest, {})
    assert after.metrics["parameters"] == before.metrics["parameters"]
    # A copy and no link: whoever changes a file of the other run in place would change what was judged.
    weights = run.workspace.artifact / "model.safetensors"
    assert not weights.samefile(trained.workspace.artifact / "model.safetensors")
    assert export.run(run.plan, run.workspace, attempt=2).artifact == result.artifact
    judged = evaluate.run(run.plan, run.workspace, attempt=1)
    assert judged.evaluation is not None
    assert judged.evaluation.artifact_digest == before.digest
    card = (run.workspace.artifact / artifact.CARD).read_text(encoding="utf-8")
    assert "judged as it is" in card
    assert f"`{before.digest}`" in card


def test_a_model_of_somebody_else_keeps_its_weights_and_gets_the_tokenizer_of_the_run(
    foreign: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    run = own_model(tmp_path, foreign, prepared=False, model={"chatTemplate": "Plain"})
    prepare.run(run.plan, run.workspace, attempt=1, workers=1, say=said.append)
    assert any("has learned from the held-out data is not known" in line for line in said)
    manifest = artifact.verify(run.workspace.artifact, _exported(run))
    for name in ("model.safetensors", "config.json"):
        assert (run.workspace.artifact / name).read_bytes() == (foreign / name).read_bytes()
    assert "picture.png" not in manifest.files
    assert (manifest.lineage["dtype"], "was" in manifest.lineage["base"]) == ("bfloat16", False)
    assert manifest.lineage["passages"]["base_unknown"] == f"file://{foreign}"
    loaded = exported_model.load(run.workspace.artifact, dtype=torch.float32)
    assert "User:" in str(loaded.tokenizer.chat_template)
    weights = sum(weight.numel() for weight in loaded.model.parameters())
    assert manifest.metrics["parameters"] == weights
    assert evaluate.run(run.plan, run.workspace, attempt=1).metrics.keys() >= {"bits_per_byte"}


def test_C_what_the_model_has_learned_is_refused_or_left_out(trained: TrainedRun, tmp_path: Path) -> None:
    held_out = [*HELD_OUT, LONG]
    run = own_model(tmp_path / "refused", trained.workspace.artifact, held_out=held_out, prepared=False)
    with pytest.raises(Overlap, match=r"1 of 4 held-out documents stand in what the base model .*heldout\.jsonl:4"):
        prepare.run(run.plan, run.workspace, attempt=1, workers=1, say=lambda _: None)
    pair = json.loads(run.workspace.overlap.read_text(encoding="utf-8"))
    assert (pair["held"].rpartition("/")[2], pair["rule"]) == ("heldout.jsonl:4", "base")
    kept = own_model(
        tmp_path / "dropped", trained.workspace.artifact, held_out=held_out, evaluation={"onOverlap": "Drop"}
    )
    report = json.loads(kept.workspace.prepared.read_text(encoding="utf-8"))["evaluation"]
    assert (report["documents"], report["dropped"]) == (3, 1)
    assert report["base"]["overlapping"] == ["heldout.jsonl:4"]
    assert "heldout.jsonl:4" in kept.workspace.overlap.read_text(encoding="utf-8")


def test_C_conversations_that_the_model_has_learned_are_refused_or_left_out(
    trained: TrainedRun, tmp_path: Path
) -> None:
    said = [*HELD_OUT, LONG]
    chats = [{"messages": [{"role": "user", "content": "say"}, {"role": "assistant", "content": one}]} for one in said]
    for name in ("refused", "dropped"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chats.jsonl").write_text("".join(json.dumps(one) + "\n" for one in chats))
    gates = [{"metric": "chat_bits_per_byte", "max": 100, "confidence": 0.5}]
    evaluation = {"data": [{"uri": "file://chats.jsonl"}], "gates": gates}
    run = own_model(tmp_path / "refused", trained.workspace.artifact, evaluation=evaluation, prepared=False)
    with pytest.raises(Overlap, match=r"data: 1 of 4 held-out conversations stand in what the base model"):
        prepare.run(run.plan, run.workspace, attempt=1, workers=1, say=lambda _: None)
    kept = own_model(tmp_path / "dropped", trained.workspace.artifact, evaluation={**evaluation, "onOverlap": "Drop"})
    report = json.loads(kept.workspace.prepared.read_text(encoding="utf-8"))["evaluation"]
    assert (report["conversations"], report["dropped"]) == (3, 1)


def test_C_answers_of_prompts_that_the_model_has_learned_are_refused_unless_they_test_recall(
    trained: TrainedRun, tmp_path: Path
) -> None:
    rows = [{"prompt": "say it", "answers": ["no", LONG]}, {"prompt": "and this?", "answer": HELD_OUT[0]}]

    def asked(name: str, **source: Any) -> TrainedRun:
        (tmp_path / name).mkdir()
        (tmp_path / name / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        evaluation = {
            "data": [],
            "prompts": [{"uri": "file://prompts.jsonl", **source}],
            "gates": [{"metric": "empty_rate", "max": 1, "confidence": 0.5}],
            "onOverlap": "Drop",
        }
        return own_model(tmp_path / name, trained.workspace.artifact, evaluation=evaluation, prepared=False)

    run = asked("refused")
    with pytest.raises(Overlap, match=r"answers that stand in what the base model .*prompts\.jsonl:1\. Ask"):
        prepare.run(run.plan, run.workspace, attempt=1, workers=1, say=lambda _: None)
    recalled = asked("recalled", recall=True)
    prepare.run(recalled.plan, recalled.workspace, attempt=1, workers=1, say=lambda _: None)


def test_a_quantised_copy_says_that_no_training_data_tells_how_far_it_is_off(
    trained: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = own_model(tmp_path, trained.workspace.artifact, export={"quantization": "INT8"})
    export.run(run.plan, run.workspace, attempt=1)
    said = "".join(capsys.readouterr())
    assert "its predictions behind random tokens are" in said
    assert "of training data" not in said


def test_a_damaged_artifact_is_refused_before_anything_is_judged(trained: TrainedRun, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.workspace.artifact, copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    run = own_model(tmp_path, copy, prepared=False)
    with pytest.raises(BadModel, match=r"model\.from: .*model\.safetensors: damaged"):
        prepare.run(run.plan, run.workspace, attempt=1, workers=1, say=lambda _: None)


def test_a_model_that_changed_after_it_was_prepared_is_not_judged(trained: TrainedRun, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.workspace.artifact, copy)
    run = own_model(tmp_path, copy)
    other = make_run(tmp_path / "other").export()
    shutil.rmtree(copy)
    shutil.copytree(other.workspace.artifact, copy)
    with pytest.raises(BadModel, match="is no longer the model that prepare found"):
        export.run(run.plan, run.workspace, attempt=1)
    assert not run.workspace.artifact.exists()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def _adapted(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")


def _alone(folder: Path) -> None:
    _adapted(folder)
    (folder / "config.json").unlink()


def _escaping(folder: Path) -> None:
    index = {"weight_map": {"a": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _cut(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _quantised(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "of-next-year"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_quantised, r"quantised \(of-next-year; .* are read where their packages are installed"),
        (_pickled, "can run code when it is loaded"),
        (_adapted, "beside its model"),
        (_alone, "is an adapter without its base"),
        (_escaping, "is no file of weights in that folder"),
        (_cut, "which is not there"),
    ],
)
def test_H_what_is_no_plain_model_is_refused_by_prepare(foreign: Path, tmp_path: Path, spoil: Any, words: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(foreign, copy)
    spoil(copy)
    run = own_model(tmp_path, copy, prepared=False)
    with pytest.raises(BadModel, match=words):
        prepare.run(run.plan, run.workspace, attempt=1, workers=1, say=lambda _: None)


def test_a_file_that_is_no_safetensors_under_its_name_is_refused(foreign: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(foreign, copy)
    (copy / "model.safetensors").write_bytes(b"\x80\x04.")
    run = own_model(tmp_path, copy, prepared=False)
    with pytest.raises(BadModel, match="is no safetensors file"):
        prepare.run(run.plan, run.workspace, attempt=1, workers=1, say=lambda _: None)


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = own_model(tmp_path, foreign)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    with pytest.raises(NoSpace, match="the artifact takes"):
        export.run(run.plan, run.workspace, attempt=1)


def test_a_preview_shows_what_is_held_out_and_what_stands_in_the_way(trained: TrainedRun, tmp_path: Path) -> None:
    def seen(folder: str, *held_out: str) -> Preview:
        plan = own_model(tmp_path / folder, trained.workspace.artifact, held_out=held_out, prepared=False).plan
        with Beside(apart=False) as beside:
            return preview.of_plan(plan, Wanted(device="H100"), beside, lambda _: None)

    well = seen("well", *HELD_OUT)
    assert (well.stages, well.problems, well.sampled) == ([], [], 1.0)
    assert any("stand in what the base model" in problem for problem in seen("learned", *HELD_OUT, LONG).problems)


def test_a_gguf_of_a_model_of_ones_own(foreign: Path, tmp_path: Path) -> None:
    run = own_model(tmp_path, foreign, evaluation={"gates": [], "data": []}, export={"gguf": "F16"})
    export.run(run.plan, run.workspace, attempt=1)
    assert (run.workspace.gguf / "model.gguf").is_file()


def _exported(run: TrainedRun) -> str:
    result = export.run(run.plan, run.workspace, attempt=1)
    assert result.artifact is not None
    return result.artifact.digest
