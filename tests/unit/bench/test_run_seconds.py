"""What a run used is told step by step, from what the kernel says of its processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from bench import run_seconds
from bench.run_seconds import MARK, Process, Used, step_of

from slipway_core.resources.status import RunStatus, StepState, StepStatus

PYTHON = ("python", "-m", "slipway_trainer.main")
TREE = {
    10: Process(1, ("slipway", "run", "file.yaml")),
    11: Process(10, (*PYTHON, "prepare", "--plan", "plan.json")),
    12: Process(10, (*PYTHON, "train", "--plan", "plan.json", "--stage", "sft")),
    13: Process(12, ("python", "-c", "a rank of the stage")),
    20: Process(1, ("python", "-P", "-m", "slipway.local.endpoints.daemon", "--name", "chat")),
    21: Process(20, ("python", "-m", "slipway_serving")),
}


@pytest.mark.parametrize(
    ("pid", "step"),
    [(10, "slipway run"), (11, "prepare"), (12, "sft"), (13, "sft"), (20, "rollout"), (21, "rollout")],
)
def test_a_process_works_for_the_step_above_it(pid: int, step: str) -> None:
    assert step_of(pid, TREE) == step


def test_what_processes_with_the_mark_use_is_counted_until_they_end_and_nothing_else_is() -> None:
    used, busy = Used("mine"), "sum(n * n for n in range(3_000_000))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"{busy}; print('done', flush=True); input()", *words],
            env={**os.environ, MARK: mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for mark, words in (("mine", [*PYTHON, "evaluate"]), ("another", ["slipway_trainer.main", "prepare"]))
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
    used.look()
    for process in processes:
        process.communicate(b"\n")
    used.look()
    assert set(used.by_step()) == {"evaluate"}
    assert used.by_step()["evaluate"] > 0.05


def test_a_step_takes_from_its_start_to_its_end_and_the_rollout_from_the_verdict_on() -> None:
    times = {"started_at": "2026-01-02T03:04:00Z", "finished_at": "2026-01-02T03:04:07Z"}
    done = StepStatus(name="evaluate", state=StepState.SUCCEEDED, **times)
    status = RunStatus(stages=[StepStatus(name="publish", state=StepState.PENDING), done])
    assert dict(run_seconds.steps(status, "2026-01-02T03:04:20Z")) == {"evaluate": 7.0, "rollout": 13.0}
    assert dict(run_seconds.steps(status, None)) == {"evaluate": 7.0}
