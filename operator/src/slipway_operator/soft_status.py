"""Which changes of a status are written at once, and which may wait: the API server is not a log of progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from slipway_core.status import Condition, RunStatus, StepState

_TALKATIVE = ("Progressing", "Live")
"""Conditions whose message says how far a step or a rollout is; their status and reason say what it is."""


@dataclass
class SoftWrites:
    """Remembers when the progress of each run was written last."""

    interval: float
    """Seconds between two writes of nothing but progress."""
    monotonic: Callable[[], float]
    _last: dict[str, float] = field(default_factory=dict[str, float])

    def wait(self, uid: str, was: RunStatus, status: RunStatus) -> float | None:
        """Returns the seconds until this status may be written: 0 for now, None when nothing changed."""
        if was == status:
            return None
        if settled(was) != settled(status):
            return 0.0
        return max(0.0, self._last.get(uid, -self.interval) + self.interval - self.monotonic())

    def written(self, uid: str) -> None:
        self._last[uid] = self.monotonic()

    def forget(self, uid: str) -> None:
        self._last.pop(uid, None)


def settled(status: RunStatus) -> RunStatus:
    """Returns the status without what moves while a step runs: its progress, and the words about it."""
    stages = [
        stage.model_copy(update={"progress": None}) if stage.state is StepState.RUNNING else stage
        for stage in status.stages
    ]
    return status.model_copy(update={"stages": stages, "conditions": [_quiet(c) for c in status.conditions]})


def _quiet(condition: Condition) -> Condition:
    return condition.model_copy(update={"message": ""}) if condition.type in _TALKATIVE else condition
