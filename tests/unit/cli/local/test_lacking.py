"""What a run needs of this machine is said before it starts, and not asked for once it is no longer needed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tests.unit.cli.evidence import YAML
from typer.testing import CliRunner

from slipway.local.state import State
from slipway.main import app
from slipway_core.documents import loading
from slipway_core.resources.status import Phase, RunStatus, StepState, StepStatus
from slipway_core.resources.training_run import TrainingRun

JUDGE = """
    prompts: [{uri: file://prompts.jsonl}]
    judge: {url: "http://127.0.0.1:9/v1", model: m, criteria: Be kind., credentials: judge-key}
    gates: [{metric: judge_score, min: 0.5}]
"""
TASKS = """
    tasks: [{name: arc_easy}]
    gates: [{metric: acc, task: arc_easy, min: 0.5}]
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JUDGE_API_KEY", raising=False)
    for name in ("corpus", "chat", "prompts", "heldout"):
        (tmp_path / f"{name}.jsonl").write_text("")


def a_file(evaluation: str) -> TrainingRun:
    """Writes run.yaml with another evaluation."""
    before = YAML.format(name="a").split("  evaluation:")[0]
    text = f"{before}  evaluation:{evaluation}"
    Path("run.yaml").write_text(text)
    return loading.load_run(text)


def said(command: str, *, code: int) -> str:
    result = CliRunner().invoke(app, [command, "run.yaml"])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def without_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "lm_eval" else found(name, *more)
    )


def test_a_run_whose_judge_has_no_key_is_refused_before_anything_starts(tmp_path: Path) -> None:
    a_file(JUDGE)
    words = said("run", code=2)
    assert "run.yaml: spec.evaluation.judge.credentials: JUDGE_API_KEY is not set. Set it to the key of" in words
    assert not (tmp_path / ".slipway" / "runs").exists()


def test_a_run_with_tasks_is_refused_where_nothing_can_ask_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_lm_eval(monkeypatch)
    a_file(TASKS)
    words = "spec.evaluation.tasks: needs lm-eval, which is not installed on this machine: pip install"
    assert f"run.yaml: {words}" in said("run", code=2)
    assert not (tmp_path / ".slipway" / "runs").exists()
    assert f"run.yaml: note: {words}" in said("validate", code=0)


@pytest.mark.parametrize(
    ("phase", "evaluated", "lacks"),
    [
        (Phase.TRAINING, StepState.WAITING, True),
        (Phase.FAILED, StepState.WAITING, True),
        (Phase.FAILED, StepState.SUCCEEDED, False),
        (Phase.ROLLING_OUT, StepState.SUCCEEDED, False),
        (Phase.HELD, StepState.FAILED, False),
    ],
)
def test_one_that_goes_on_is_asked_for_the_key_while_it_has_to_be_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: Phase, evaluated: StepState, lacks: bool
) -> None:
    from slipway.local import lacking

    without_lm_eval(monkeypatch)
    run = a_file(JUDGE)
    state = State.below(tmp_path)
    folder = state.run(run.name)
    folder.save(run)
    folder.save_status(RunStatus(phase=phase, stages=[StepStatus(name="evaluate", state=evaluated, attempt=1)]))
    assert bool(lacking.of_what_is_left(run, state)) == lacks
    monkeypatch.setenv("JUDGE_API_KEY", "sk")
    assert lacking.of_what_is_left(a_file(JUDGE), state) == []
