"""The example with a judge, judged by one that goes by rules on a tiny model that has learned nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.trainer import judge_server
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

EXAMPLE = Path(__file__).parents[3] / "examples" / "judge.yaml"


def test_every_gate_of_the_example_is_told_by_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "sk-judge")
    with judge_server.serving() as server:
        changed = [f"evaluation.judge.url={server.url}", "evaluation.maxNewTokens=4", "evaluation.engine=Transformers"]
        changed.append("model.scratch.tokenizer.train.vocabSize=512")
        run = loading.load(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE.name, overrides=changed)
        assert isinstance(run, TrainingRun)
        plan = plans.resolve(run, plans.ExecutorDefaults(folder=str(EXAMPLE.parent)), uid="00000000-0000")
        workspace = Workspace(tmp_path)
        workspace.plan.write_text(plan.to_json(), encoding="utf-8")
        said: list[str] = []
        prepare.run(plan, workspace, attempt=1, workers=1, say=said.append)
        assert not [line for line in said if "WARNING" in line]
        (questions,) = [line for line in said if "questions" in line]
        folder = workspace.stage("sft")
        make_model(tokenizer.load(workspace), positions=256).save_pretrained(str(folder.model))
        done = {"kind": "model", "digest": "sha256:" + "0" * 64, "metrics": {"loss": 1.5}}
        folder.done.write_text(json.dumps(done), encoding="utf-8")
        export.run(plan, workspace, attempt=1)
        result = step_result.decode(step_result.encode(evaluate.run(plan, workspace, attempt=1)))
    found = result.evaluation
    assert found is not None
    measured = verdict.Measured(result.metrics, estimates=found.estimates, figures=found.figures, reasons=found.reasons)
    judged = verdict.judge(plan.evaluation.gates, measured, win_rate_over=plan.evaluation.win_rate_over)
    assert all(one.value is not None for one in judged.metrics)
    assert judged.metrics[0].verdict is Verdict.PASS
    assert f"at most {len(server.asked):,} questions" in questions
