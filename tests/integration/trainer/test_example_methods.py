"""Every file of examples/methods runs, on a small model in place of the quickstart's: two steps, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_core import plan as plans
from slipway_core.documents import loading
from slipway_core.plan import ExecutorDefaults
from slipway_core.protocol import artifact
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.prepare import prepare
from slipway_trainer.training import train

METHODS = sorted((Path(__file__).parents[3] / "examples" / "methods").glob("*.yaml"))
FORGETS_LITTLE = {"lora", "dora", "qlora", "rslora", "added-tokens", "adapter-alone"}
"""Those with a gate on what was forgotten."""
ALONE = {"adapter-alone", "prefix", "prompt-tuning", "p-tuning"}


def read(path: Path) -> TrainingRun:
    run = loading.load(path.read_text(), path.name)
    assert isinstance(run, TrainingRun)
    return run


def test_every_method_has_its_file() -> None:
    runs = [read(path) for path in METHODS]
    assert [run.name for run in runs] == [path.stem for path in METHODS]
    (*stages,) = (run.spec.stages[0] for run in runs)
    assert {stage.adapter.method for stage in stages if stage.adapter} == {
        "LoRA", "DoRA", "QLoRA", "Prefix", "PromptTuning", "PTuning",
    }  # fmt: skip
    assert {stage.optimizer.name for stage in stages} == {"AdamW", "AdamW8bit", "Muon"}
    assert {stage.preference.loss for stage in stages if stage.preference} == {"DPO", "IPO", "SimPO"}
    assert any(stage.optimizer.schedule == "WSD" for stage in stages)
    assert any(stage.neftune_noise_alpha for stage in stages)
    assert any(stage.label_smoothing for stage in stages)
    assert any(run.spec.model.add_tokens for run in runs)
    assert any(stage.adapter and stage.adapter.modules_to_save for stage in stages)
    assert any(stage.adapter and stage.adapter.rank_stabilized for stage in stages)
    assert any(run.spec.export and run.spec.export.gguf != "None" for run in runs)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    words = make_tokenizer(max_length=512)
    make_model(words, positions=512).save_pretrained(str(folder))
    words.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_it_runs(tmp_path: Path, base: Path, path: Path) -> None:
    text = path.read_text().replace("run://quickstart", f"file://{base}").replace("epochs: 3", "steps: 2")
    few = tmp_path / "general.jsonl"
    few.write_text("".join(json.dumps({"text": f"prose that nobody learns, line {n}"}) + "\n" for n in range(10)))
    text = text.replace("maxNewTokens: 96", "maxNewTokens: 4").replace("package://general-text", f"file://{few}")
    run = loading.load(text, path.name)
    assert isinstance(run, TrainingRun)
    plan = plans.resolve(run, ExecutorDefaults(folder=str(path.parent)), uid="uid-1")
    workspace = Workspace(tmp_path / "run")
    workspace.root.mkdir()
    prepare.run(plan, workspace, attempt=1, workers=1, say=lambda _: None)
    train.run(plan, workspace, stage="sft", attempt=1)
    exported = export.run(plan, workspace, attempt=1)
    assert exported.artifact is not None
    files = artifact.verify(workspace.artifact, exported.artifact.digest).files
    assert ("adapter_model.safetensors" in files, "model.safetensors" in files) == (
        path.stem in ALONE,
        path.stem not in ALONE,
    )
    assert (workspace.gguf / "model.gguf").exists() == (path.stem == "gguf")
    if run.spec.evaluation.data:
        judged = evaluate.run(plan, workspace, attempt=1)
        assert judged.metrics["bits_per_byte"] > 0
        report = json.loads(workspace.report(1).read_text())
        assert report["metrics"] == judged.metrics
        # Each gate on general text is measured, of the base too.
        assert [gate["estimate"]["clusters"] for gate in report["gates"]] == [10] * (path.stem in FORGETS_LITTLE)
