"""The quickstart by its own steps, from data to a judged model, and judged once more without the GPU."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_core import plan as plans
from slipway_core.documents.loading import load_run
from slipway_core.lifecycle import verdict
from slipway_core.plan import Plan
from slipway_core.protocol import commands, parity, variables
from slipway_core.protocol.parity import Record
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.step import progress

FILE = Path(__file__).parents[2] / "examples/quickstart.yaml"
WITHIN = 0.02
"""Bits a byte: what half precision may change of the figure of a text, of which 2.9 pass."""


class StepFailed(Exception):
    """The message has the step's last words."""


@dataclass(frozen=True)
class Step:
    seconds: float
    """Of its process, from its start to its end."""
    result: StepResult


def prepared(folder: Path, steps: int | None) -> tuple[Plan, Workspace]:
    """Returns the plan of the quickstart and a workspace with it alone.

    Args:
        steps: of each stage; those of the file when None.
    """
    few = [] if steps is None else [f"stages[{n}].{field}" for n in range(2) for field in ("epochs=", f"steps={steps}")]
    run = load_run(FILE.read_text(), str(FILE), overrides=few)
    plan = plans.resolve(run, plans.ExecutorDefaults(folder=str(FILE.parent)), uid="gpu-check")
    workspace = Workspace(folder)
    workspace.root.mkdir(parents=True, exist_ok=True)
    workspace.plan.write_text(plan.to_json())
    return plan, workspace


def take(workspace: Workspace, step: str, *, attempt: int = 1, gpu: bool = True) -> Step:
    """Runs one step as an executor starts it. Raises StepFailed."""
    words = commands.step_command(step, plan=str(workspace.plan), attempt=attempt)
    told = workspace.result(step, attempt)
    told.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {variables.RESULT_VARIABLE: str(told)} | ({} if gpu else {"CUDA_VISIBLE_DEVICES": ""})
    started = time.monotonic()
    command = [sys.executable, "-m", "slipway_trainer.main", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise StepFailed(f"{step} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return Step(seconds, StepResult.model_validate_json(told.read_bytes()))


def speed(workspace: Workspace, plan: Plan, step: str) -> dict[str, Any]:
    """Returns what a step that trains told of its speed at its end; nothing of another one."""
    if step not in [stage.name for stage in plan.stages]:
        return {}
    rows = progress.read(workspace.stage(step).metrics)
    half = rows[len(rows) // 2]
    seconds = rows[-1]["time"] - half["time"]
    return {"steps": len(rows), "step_ms": 1000 * seconds / max(1, rows[-1]["step"] - half["step"])}


def judged(plan: Plan, result: StepResult) -> str:
    """Returns what the gates say of a result, as `slipway status` would."""
    assert result.evaluation is not None
    found = verdict.judge(plan.evaluation.gates, verdict.Measured.of(result, result.evaluation))
    return f"{found.verdict}: {found.reason}"


@dataclass(frozen=True)
class Agreement:
    """Of two judgements of one model, the one of a GPU and the one of a CPU."""

    bits_off: float
    """Of bits_per_byte."""
    same_answers: int
    answers: int
    parity_median: float | None
    """Of |Δ log p| of their records, both in float32; None where one has none."""
    bf16: tuple[float, float]
    """Of each record the median that rounding to bf16 makes."""

    @property
    def holds(self) -> bool:
        return self.bits_off < WITHIN and self.parity_median is not None and self.parity_median <= parity.FLOAT32_BOUND

    def told(self) -> str:
        median = "no record" if self.parity_median is None else f"{self.parity_median:.1e} nats"
        first, second = self.bf16
        return (
            f"bits a byte off by {self.bits_off:.4f}, {self.same_answers} of {self.answers} answers the same; "
            f"records of parity in float32 off by {median} (bound {parity.FLOAT32_BOUND:g}), "
            f"bf16 by {first:.1e} and {second:.1e}"
        )


def compared(workspace: Workspace, first: StepResult, second: StepResult) -> Agreement:
    numbers = (first.attempt, second.attempt)
    answers = [_answers(workspace.samples(number)) for number in numbers]
    one, other = (_record(workspace, result) for result in (first, second))
    median = None
    if one is not None and other is not None:
        own = {piece.name: piece.log_probabilities for piece in other.pieces}
        median = parity.compare_figures(one, own, float32=True).median
    return Agreement(
        bits_off=abs(first.metrics["bits_per_byte"] - second.metrics["bits_per_byte"]),
        same_answers=sum(one == other for one, other in zip(*answers, strict=True)),
        answers=len(answers[0]),
        parity_median=median,
        bf16=(_rounding(one), _rounding(other)),
    )


def _answers(file: Path) -> list[str]:
    return [json.loads(line)["answer"] for line in file.read_text().splitlines()]


def _record(workspace: Workspace, result: StepResult) -> Record | None:
    told = result.evaluation
    if told is None or told.parity_digest is None:
        return None
    content = workspace.parity(result.attempt).read_bytes()
    return parity.parse(content, digest=told.parity_digest, artifact=told.artifact_digest)


def _rounding(record: Record | None) -> float:
    return math.nan if record is None else record.bf16_median
