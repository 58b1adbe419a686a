"""Every file of examples/methods runs, on a small model in place of the quickstart's."""

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
ALONE = {"adapter-alone", "prefix", "prompt-tuning", "p-tuning"}


def test_every_method_has_its_file() -> None:
    runs = [loading.load(path.read_text(), path.name) for path in METHODS]
    assert all(isinstance(run, TrainingRun) and run.name == path.stem for run, path in zip(runs, METHODS, strict=True))
    adapters = [run.spec.stages[0].adapter for run in runs if isinstance(run, TrainingRun)]
    assert {adapter.method for adapter in adapters if adapter} == {
        "LoRA", "DoRA", "QLoRA", "Prefix", "PromptTuning", "PTuning",
    }  # fmt: skip


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_it_runs(tmp_path: Path, path: Path) -> None:
    words = make_tokenizer(max_length=512)
    make_model(words, positions=512).save_pretrained(str(tmp_path / "base"))
    words.save_pretrained(str(tmp_path / "base"))
    text = path.read_text().replace("run://quickstart", f"file://{tmp_path}/base").replace("epochs: 3", "steps: 2")
    run = loading.load(text.replace("maxNewTokens: 96", "maxNewTokens: 4"), path.name)
    assert isinstance(run, TrainingRun)
    plan = plans.resolve(run, ExecutorDefaults(folder=str(tmp_path)), uid="uid-1")
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
    judged = evaluate.run(plan, workspace, attempt=1)
    assert judged.metrics["bits_per_byte"] > 0
    assert json.loads(workspace.report(1).read_text())["metrics"] == judged.metrics
