"""An example from its file to its verdict, on a tiny model that has learned nothing: all but the training is real."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tests.unit.trainer.tiny_model import make_model

from slipway_core import plan as plans
from slipway_core.documents import loading
from slipway_core.lifecycle import verdict
from slipway_core.lifecycle.verdict import Judgement
from slipway_core.plan import Plan
from slipway_core.protocol import step_result
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.prepare import prepare
from slipway_trainer.tokens import tokenizer

EXAMPLES = Path(__file__).parents[3] / "examples"


@dataclass(frozen=True)
class Evaluated:
    plan: Plan
    said: list[str]
    """By prepare."""
    judgement: Judgement


def evaluated(name: str, folder: Path, overrides: list[str], *, positions: int) -> Evaluated:
    """
    Args:
        name: of the example's file.
        folder: for its workspace.
        positions: that the model takes.
    """
    file = EXAMPLES / name
    run = loading.load(file.read_text(encoding="utf-8"), file.name, overrides=overrides)
    assert isinstance(run, TrainingRun)
    plan = plans.resolve(run, plans.ExecutorDefaults(folder=str(EXAMPLES)), uid="00000000-0000")
    workspace = Workspace(folder)
    workspace.plan.write_text(plan.to_json(), encoding="utf-8")
    said: list[str] = []
    environment = dict(os.environ)
    prepare.run(plan, workspace, attempt=1, workers=1, say=said.append)
    # Each step is a process of its own, and takes a judge's key out of its own environment.
    os.environ.update(environment)
    model = make_model(tokenizer.load(workspace), positions=positions)
    for stage in plan.stages:
        trained = workspace.stage(stage.name)
        model.save_pretrained(str(trained.model))
        done = {"kind": "model", "digest": "sha256:" + "0" * 64, "metrics": {"loss": 1.5}}
        trained.done.write_text(json.dumps(done), encoding="utf-8")
    export.run(plan, workspace, attempt=1)
    result = step_result.decode(step_result.encode(evaluate.run(plan, workspace, attempt=1)))
    found = result.evaluation
    assert found is not None
    measured = verdict.Measured(result.metrics, estimates=found.estimates, figures=found.figures, reasons=found.reasons)
    judgement = verdict.judge(plan.evaluation.gates, measured, win_rate_over=plan.evaluation.win_rate_over)
    return Evaluated(plan, said, judgement)
