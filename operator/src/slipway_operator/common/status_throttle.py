"""Which changes of a status are written at once, and which may wait: the API server is not a log of progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from slipway_core.resources.status import Condition, EndpointStatus, RunStatus, StepState

Status = TypeVar("Status", RunStatus, EndpointStatus)


@dataclass
class StatusThrottle(Generic[Status]):
    """Remembers when the status of each run, or of each endpoint, was written last."""

    settled: Callable[[Status], Status]
    """Returns a status without what may wait."""
    monotonic: Callable[[], float]
    interval: float = 10.0
    """Seconds between two writes of nothing but what may wait."""
    _last: dict[str, float] = field(default_factory=dict[str, float])

    def wait(self, uid: str, was: Status | None, status: Status) -> float | None:
        """Returns the seconds until this status may be written: 0 for now, None when nothing changed."""
        if was == status:
            return None
        if was is None or self.settled(was) != self.settled(status):
            return 0.0
        return max(0.0, self._last.get(uid, -self.interval) + self.interval - self.monotonic())

    def written(self, uid: str) -> None:
        self._last[uid] = self.monotonic()

    def forget(self, uid: str) -> None:
        self._last.pop(uid, None)


def settled_run(status: RunStatus) -> RunStatus:
    """Returns the status without what moves while a step runs: its progress, with what it warns of, and the words of
    conditions.

    Words may hold numbers that never rest: how far a step is, how many nodes have no room, how much of a quota is used.
    """
    stages = [
        stage.model_copy(update={"progress": None}) if stage.state is StepState.RUNNING else stage
        for stage in status.stages
    ]
    quiet = {"stages": stages, "warnings": None, "conditions": _wordless(status.conditions)}
    return status.model_copy(update=quiet)


def settled_endpoint(status: EndpointStatus) -> EndpointStatus:
    """Returns the status without what is said while a candidate starts, without the words of conditions, and without
    what is counted of held-out data, which a candidate's own writes take along."""
    quiet = status.model_copy(update={"conditions": _wordless(status.conditions), "held_out": None})
    if status.candidate is None:
        return quiet
    return quiet.model_copy(update={"candidate": status.candidate.model_copy(update={"message": None})})


def _wordless(conditions: Iterable[Condition]) -> list[Condition]:
    """Returns the conditions without their messages: status and reason say what it is."""
    return [condition.model_copy(update={"message": ""}) for condition in conditions]
