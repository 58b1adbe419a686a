"""The example with conversations, references and slices, judged on a tiny model that has learned nothing."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.trainer.tiny_model import make_model

from slipway_core import plan as plans
from slipway_core.documents import loading
from slipway_core.lifecycle import verdict
from slipway_core.protocol import step_result
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.status import Verdict
from slipway_core.resources.training_run import TrainingRun
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.prepare import prepare
from slipway_trainer.tokens import tokenizer

EXAMPLE = Path(__file__).parents[3] / "examples" / "held-out.yaml"


def test_every_gate_of_the_example_is_computed_from_its_rows(tmp_path: Path) -> None:
    run = loading.load(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE.name, overrides=["evaluation.maxNewTokens=4"])
    assert isinstance(run, TrainingRun)
    plan = plans.resolve(run, plans.ExecutorDefaults(folder=str(EXAMPLE.parent)), uid="00000000-0000")
    workspace = Workspace(tmp_path)
    workspace.plan.write_text(plan.to_json(), encoding="utf-8")
    said: list[str] = []
    prepare.run(plan, workspace, attempt=1, workers=1, say=said.append)
    assert not [line for line in said if "WARNING" in line]
    model = make_model(tokenizer.load(workspace), positions=512)
    for stage in plan.stages:
        folder = workspace.stage(stage.name)
        model.save_pretrained(str(folder.model))
        done = {"kind": "model", "digest": "sha256:" + "0" * 64, "metrics": {"loss": 1.5}}
        folder.done.write_text(json.dumps(done), encoding="utf-8")
    export.run(plan, workspace, attempt=1)
    result = step_result.decode(step_result.encode(evaluate.run(plan, workspace, attempt=1)))
    found = result.evaluation
    assert found is not None
    measured = verdict.Measured(result.metrics, estimates=found.estimates, figures=found.figures, reasons=found.reasons)
    judged = verdict.judge(plan.evaluation.gates, measured)
    assert judged.verdict is Verdict.FAIL
    assert {one.title for one in judged.metrics} >= {
        "chat_bits_per_byte of source chats, slice five",
        "chrf of source couplets",
    }
    assert all(one.value is not None for one in judged.metrics)
    poems = {one.title: one.clusters for one in judged.metrics}
    assert (poems["bits_per_byte of source poems"], poems["chat_bits_per_byte of source chats"]) == (40, 40)
    report = json.loads(workspace.report(1).read_text(encoding="utf-8"))
    figures = report["candidate"]["bounds"]
    assert (figures["exact_match"]["n"], figures["exact_match"]["clusters"]) == (80, 40)
    assert {"bleu", "chrf", "rouge_l", "regex_match", "language_match", "answer_length"} <= figures.keys()
