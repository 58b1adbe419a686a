"""A run without stages about a model that is there: an artifact of another run, or a folder of Hugging Face."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.unit.trainer.trained_run import HELD_OUT, TrainedRun

from slipway_core import plan as plans
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer.prepare import prepare


def own_model(folder: Path, base: Path, *, held_out: Any = HELD_OUT, prepared: bool = True, **spec: Any) -> TrainedRun:
    """Returns a run that judges a model; its data is prepared.

    Args:
        base: the folder of the model.
        spec: what of the run is otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in held_out)
    (folder / "heldout.jsonl").write_text(rows, encoding="utf-8")
    evaluation = {
        "data": [{"uri": "file://heldout.jsonl"}],
        "gates": [{"metric": "bits_per_byte", "max": 100, "confidence": 0.5}],
        **spec.pop("evaluation", {}),
    }
    document = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "judged", "uid": "00000000-0000-0000-0000-000000000002"},
        "spec": {
            "model": {"from": f"file://{base}", **spec.pop("model", {})},
            "stages": [],
            "evaluation": evaluation,
            **spec,
        },
    }
    run = TrainingRun.model_validate_json(json.dumps(document), by_alias=True, by_name=False)
    plan = plans.resolve(run, plans.ExecutorDefaults(folder=str(folder)))
    workspace = Workspace(folder / "workspace")
    workspace.root.mkdir(exist_ok=True)
    workspace.plan.write_text(plan.to_json(), encoding="utf-8")
    made = TrainedRun(plan, workspace)
    if prepared:
        prepare.run(plan, workspace, attempt=1, workers=1, say=lambda _: None)
    return made
