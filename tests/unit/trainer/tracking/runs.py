"""Runs that are tracked, as their processes are told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.unit.core.runs import a_run

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.protocol import variables
from slipway_trainer.tracking.tracker import Row, TrackedRun

TENSORBOARD: dict[str, Any] = {"tensorboard": {}}


def a_plan(**spec: Any) -> Plan:
    return plans.resolve(a_run(serving=False, **spec), plans.ExecutorDefaults(folder="/data"))


def a_tracked_run(folder: Path) -> TrackedRun:
    return TrackedRun.of(a_plan(), folder)


def told(**tracking: Any) -> dict[str, str]:
    """The variable by which an executor says where a run is tracked."""
    return {variables.TRACKING_VARIABLE: json.dumps(tracking)}


def rows(*steps: int, attempt: int = 1, stage: str = "learn", before: int = 0) -> list[Row]:
    return [
        Row(stage, n, before + n, attempt, 1.7e9 + n, {f"{stage}/loss": 1.0 / n, f"{stage}/attempt": float(attempt)})
        for n in steps
    ]
