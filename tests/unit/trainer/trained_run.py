"""A run whose data is really prepared and whose only stage ended with a model made here instead of trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.unit.trainer.tiny_model import make_model
from transformers import PreTrainedModel

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer import export
from slipway_trainer.prepare import prepare
from slipway_trainer.tokens import tokenizer

TRAINING = [f"{subject}{verb}{thing}。" for subject in "天地人" for verb in "有见闻" for thing in "山水风月"]
HELD_OUT = ["清晨入古寺，初日照高林。" * 9, "The rain in the plain falls mainly on the grain.", "山"]
PROMPTS = [
    {"prompt": "背诵第一句", "answer": TRAINING[0]},
    {"prompt": "背诵第二句", "answer": TRAINING[1]},
    {"prompt": "say something"},
]


@dataclass
class TrainedRun:
    plan: Plan
    workspace: Workspace

    def end_stage(self, model: PreTrainedModel | None = None, **resolved: Any) -> None:
        """Leaves what a training stage leaves."""
        model = model or self.model()
        stage = self.workspace.stage("pretrain")
        model.save_pretrained(str(stage.model))
        done = {"kind": "model", "digest": "sha256:" + "0" * 64, "metrics": {"loss": 1.5}}
        stage.done.write_text(json.dumps(done), encoding="utf-8")
        if resolved:
            stage.resolved.write_text(json.dumps(resolved), encoding="utf-8")

    def export(self) -> Self:
        """Leaves what a training stage leaves, exported."""
        self.end_stage()
        export.run(self.plan, self.workspace, attempt=1)
        return self

    def model(self, **config: Any) -> PreTrainedModel:
        return make_model(tokenizer.load(self.workspace), **config)


def make_run(
    folder: Path,
    *,
    gates: list[dict[str, Any]] | None = None,
    prompts: bool = True,
    held_out: Sequence[str] = HELD_OUT,
    more: Sequence[str] = (),
) -> TrainedRun:
    """
    Args:
        more: training documents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "train.jsonl", [{"text": text} for text in (*TRAINING, *more)])
    _write(folder / "heldout.jsonl", [{"text": text} for text in held_out])
    _write(folder / "prompts.jsonl", PROMPTS)
    evaluation: dict[str, Any] = {"data": [{"uri": "file://heldout.jsonl"}], "maxNewTokens": 12, "gates": gates or []}
    if prompts:
        evaluation["prompts"] = [{"uri": "file://prompts.jsonl", "recall": True}]
    document = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "tiny", "uid": "00000000-0000-0000-0000-000000000001"},
        "spec": {
            "model": {"scratch": {"maxLength": 128, "tokenizer": {"train": {"vocabSize": 400}}}},
            "stages": [{"name": "pretrain", "maxLength": 64, "data": {"train": [{"uri": "file://train.jsonl"}]}}],
            "evaluation": evaluation,
        },
    }
    run = TrainingRun.model_validate_json(json.dumps(document), by_alias=True, by_name=False)
    plan = plans.resolve(run, plans.ExecutorDefaults(folder=str(folder)))
    workspace = Workspace(folder / "workspace")
    workspace.root.mkdir(exist_ok=True)
    workspace.plan.write_text(plan.to_json(), encoding="utf-8")
    prepare.run(plan, workspace, attempt=1, workers=1, say=lambda _: None)
    return TrainedRun(plan, workspace)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
