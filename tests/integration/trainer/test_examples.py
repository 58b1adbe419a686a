"""The examples that train, from their files to a verdict, in fewer steps and in this process.

`tests/e2e/test_local.py` has what the command and its executor add: a process a step, the phase and the exit code.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.trainer.training import Training

from slipway_core import plan as plans
from slipway_core.documents import loading
from slipway_core.lifecycle import verdict
from slipway_core.lifecycle.verdict import Judgement
from slipway_core.plan import ExecutorDefaults
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.status import Verdict
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.prepare import prepare
from slipway_trainer.training import train

EXAMPLES = Path(__file__).parents[3] / "examples"


def judged(folder: Path, name: str, *overrides: str) -> tuple[Training, Judgement]:
    """Takes all steps of an example, and holds what was measured against its gates."""
    path = EXAMPLES / f"{name}.yaml"
    document = loading.load_run(path.read_text(), path.name, overrides=overrides)
    plan = plans.resolve(document, ExecutorDefaults(folder=str(EXAMPLES)), uid="uid-1")
    workspace = Workspace(folder / "run")
    workspace.root.mkdir()
    prepare.run(plan, workspace, attempt=1, workers=1, say=lambda _: None)
    for stage in plan.stages:
        train.run(plan, workspace, stage=stage.name, attempt=1)
    export.run(plan, workspace, attempt=1)
    found = evaluate.run(plan, workspace, attempt=1)
    assert found.evaluation is not None
    measured = verdict.Measured(
        metrics=found.metrics,
        scored_tokens=found.evaluation.scored_tokens,
        missing=found.missing,
        estimates=found.evaluation.estimates,
        figures=found.evaluation.figures,
        reasons=found.evaluation.reasons,
    )
    return Training(plan, workspace), verdict.judge(plan.evaluation.gates, measured)


@pytest.mark.parametrize(
    ("name", "stages", "most"),
    [("optimizers", ("pretrain", "sft"), 6), ("regularized", ("sft",), 6), ("preferences", ("sft", "prefer"), 9)],
)
def test_an_example_learns_and_is_judged(tmp_path: Path, name: str, stages: tuple[str, ...], most: int) -> None:
    fewer = [f"stages.{stage}.steps=30" for stage in stages]
    run, judgement = judged(tmp_path, name, *fewer, f"evaluation.gates[0].max={most}")
    assert judgement.verdict == Verdict.PASS
    for stage in stages:
        losses = run.losses(stage)
        assert len(losses) == 30
        assert losses[-1] < losses[0] - 0.3


def test_A_a_gate_on_a_task_of_a_file_lets_a_model_through_that_knows_where_a_line_ends(tmp_path: Path) -> None:
    task_alone = ["evaluation.data=null", "evaluation.prompts=null"]
    task_alone += ["evaluation.gates=[{metric: acc, task: line-end, min: 0.5}]", "stages.sft.steps=1"]
    run, judgement = judged(
        tmp_path, "held-out", "stages.pretrain.epochs=null", "stages.pretrain.steps=40", *task_alone
    )
    (acc,) = judgement.metrics
    assert (acc.title, acc.verdict, judgement.verdict) == ("acc of task line-end", Verdict.PASS, Verdict.PASS)
    assert acc.clusters == 80
    assert (run.workspace.evaluation_data / "task-line-end-test.parquet").is_file()


def test_A_the_quickstarts_gates_stop_a_model_that_has_hardly_learned_anything(tmp_path: Path) -> None:
    once = [
        word for stage in ("pretrain", "sft") for word in (f"stages.{stage}.epochs=null", f"stages.{stage}.steps=1")
    ]
    _, judgement = judged(tmp_path, "quickstart", *once)
    rows = {row.name: row for row in judgement.metrics}
    assert judgement.verdict == Verdict.FAIL
    assert rows["bits_per_byte"].verdict == Verdict.FAIL
    assert rows["bits_per_byte"].value is not None
    assert rows["bits_per_byte"].value > 3.5
    assert rows["recall_count"].verdict == Verdict.FAIL
