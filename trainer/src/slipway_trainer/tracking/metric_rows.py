"""The rows of metrics.jsonl as trackers take them, read as the file grows."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway_core.protocol.workspace import Workspace
from slipway_trainer.tracking.tracker import Row

_BLOCK = 1 << 20
_NO_FIGURES = ("step", "time")


@dataclass
class MetricRows:
    """Reads the rows of a stage once. An attempt that goes on from a checkpoint puts another file there, without the
    rows behind it: that one is read from its start."""

    path: Path
    stage: str
    before: int
    """Steps of the stages before."""
    _file: tuple[int, int] = (0, 0)
    _offset: int = 0
    _rest: bytes = field(default=b"")

    def fresh(self) -> tuple[list[Row], bool]:
        """Returns rows that were not returned yet, about a MiB of them, and whether there are more."""
        try:
            with self.path.open("rb") as file:
                found = self._identity(file.fileno())
                if found != self._file:
                    self._file, self._offset, self._rest = found, 0, b""
                file.seek(self._offset)
                block = file.read(_BLOCK)
        except FileNotFoundError:
            return [], False
        self._offset += len(block)
        *lines, self._rest = (self._rest + block).split(b"\n")
        rows = [row for line in lines if (row := self._row(line)) is not None]
        return rows, len(block) == _BLOCK

    def again(self) -> None:
        """Has all rows returned once more."""
        self._file = (0, 0)

    @staticmethod
    def _identity(handle: int) -> tuple[int, int]:
        found = os.fstat(handle)
        return found.st_dev, found.st_ino

    def _row(self, line: bytes) -> Row | None:
        try:
            told = json.loads(line)
        except ValueError:
            return None
        if not isinstance(told, dict) or not isinstance(told.get("step"), int):
            return None
        step = told["step"]
        return Row(
            stage=self.stage,
            step=step,
            axis=self.before + step,
            # Rows of an earlier release do not say it.
            attempt=told["attempt"] if isinstance(told.get("attempt"), int) else 0,
            seconds=float(told["time"]) if _is_number(told.get("time")) else 0.0,
            values={f"{self.stage}/{name}": float(v) for name, v in told.items() if _is_figure(name, v)},
        )


def _is_figure(name: str, value: Any) -> bool:
    return name not in _NO_FIGURES and _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def last_step(path: Path) -> int:
    """Returns the last step of a stage that has ended; 0 where it logged nothing."""
    rows, last, more = MetricRows(path, "", 0), 0, True
    while more:
        found, more = rows.fresh()
        last = found[-1].step if found else last
    return last


def steps_before(workspace: Workspace, stages: list[str], stage: str) -> int:
    """Returns the steps of all stages before one."""
    return sum(last_step(workspace.stage(name).metrics) for name in stages[: stages.index(stage)])
