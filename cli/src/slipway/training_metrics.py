"""What a training stage logged: `metrics.jsonl`, one row a logged step."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.training_run import TrainingRun


@dataclass(frozen=True)
class Point:
    step: int
    value: float
    """May be NaN or infinite: that a loss diverged is what one wants to see."""


@dataclass(frozen=True)
class StageMetrics:
    """The curves of one stage, by optimizer step, in the order of the steps."""

    name: str
    loss: tuple[Point, ...] = ()
    validation_loss: tuple[Point, ...] = ()
    learning_rate: tuple[Point, ...] = ()
    tokens_per_second: tuple[Point, ...] = ()

    @property
    def last_step(self) -> int:
        curves = (self.loss, self.validation_loss, self.learning_rate, self.tokens_per_second)
        return max((curve[-1].step for curve in curves if curve), default=0)


def read_run(run: TrainingRun, workspace: Workspace) -> list[StageMetrics]:
    """Returns the curves of every stage that has logged something."""
    stages = [read_stage(stage.name, workspace.stage(stage.name).metrics) for stage in run.spec.stages]
    return [stage for stage in stages if stage.last_step]


def read_stage(name: str, path: Path) -> StageMetrics:
    """Reads one file; one that is not there has no rows."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return parse_stage(name, text)


def parse_stage(name: str, text: str) -> StageMetrics:
    """Reads the text of a `metrics.jsonl`."""
    return stage_metrics(name, _rows(text.splitlines()))


def stage_metrics(name: str, rows: Iterable[dict[str, Any]]) -> StageMetrics:
    """Sorts rows into curves. A step that was done again after a resume counts as it was done last."""
    kept = list(rows)
    return StageMetrics(
        name,
        loss=_curve(kept, "loss"),
        validation_loss=_curve(kept, "validationLoss"),
        learning_rate=_curve(kept, "learningRate"),
        tokens_per_second=_curve(kept, "tokensPerSecond"),
    )


def _rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # The line that was being written when the process ended.
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield {_camel(key): value for key, value in row.items()}


def _curve(rows: Iterable[dict[str, Any]], name: str) -> tuple[Point, ...]:
    points: dict[int, float] = {}
    for row in rows:
        value = row.get(name)
        if isinstance(value, str):  # JSON has no NaN; writers put it into a text.
            value = {"nan": math.nan, "inf": math.inf, "infinity": math.inf}.get(value.lower().lstrip("-"))
        if isinstance(value, int | float) and not isinstance(value, bool):
            # What comes after a step that is done again was thrown away with the attempt that made it.
            points = {step: kept for step, kept in points.items() if step < row["step"]}
            points[row["step"]] = float(value)
    return tuple(Point(step, value) for step, value in points.items())


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)
