"""What a training stage logged: `metrics.jsonl`, one row a logged step."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from slipway import foreign_json
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
    margin: tuple[Point, ...] = ()
    """Of preferences, as are the accuracies."""
    accuracy: tuple[Point, ...] = ()
    validation_accuracy: tuple[Point, ...] = ()
    mfu: tuple[Point, ...] = ()
    peak_memory_bytes: tuple[Point, ...] = ()
    data_share: tuple[Point, ...] = ()
    """Of the time of the last steps, as the other shares; what is left is computing."""
    communication_share: tuple[Point, ...] = ()
    validation_share: tuple[Point, ...] = ()
    checkpoint_share: tuple[Point, ...] = ()

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
    kept: list[dict[str, Any]] = []
    for row in rows:
        # What comes after a step that is done again was thrown away with the attempt that made it.
        while kept and kept[-1]["step"] >= row["step"]:
            kept.pop()
        kept.append(row)
    curves = [field.name for field in fields(StageMetrics) if field.name != "name"]
    return StageMetrics(name, **{curve: _curve(kept, _camel(curve)) for curve in curves})


def _rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            row = foreign_json.loads(line)
        except ValueError:
            continue  # The line that was being written when the process ended.
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield {_camel(key): value for key, value in row.items()}


def _curve(rows: Iterable[dict[str, Any]], name: str) -> tuple[Point, ...]:
    points: list[Point] = []
    for row in rows:
        value = row.get(name)
        if isinstance(value, str):  # JSON has no NaN; writers put it into a text.
            value = {"nan": math.nan, "inf": math.inf, "infinity": math.inf}.get(value.lower().lstrip("-"))
        if isinstance(value, int | float) and not isinstance(value, bool):
            points.append(Point(row["step"], float(value)))
    return tuple(points)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)
