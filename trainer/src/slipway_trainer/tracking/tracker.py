"""What a tracker is to us: a run in it, rows of curves, and a conclusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from slipway_core.plan import Plan
from slipway_core.protocol.judged import Judged

_UNTOLD = ("version", "run", "images", "folder", "attemptsBefore", "tracking", "retention", "storage")
"""Of a plan, what says nothing of what is learned and judged."""

Outcome = Literal["paused", "failed", "finished"]
"""paused: more will come, from the next stage or the next attempt."""


class TrackerAway(Exception):
    """It does not answer, or has a fault of its own: it may be otherwise at another time."""


class TrackerRefuses(Exception):
    """It takes nothing from us as we are: no key, a wrong one, or one without rights there."""


@dataclass(frozen=True)
class Row:
    """The figures of one optimizer step."""

    stage: str
    step: int
    """Of the stage, from 1."""
    axis: int
    """Steps of the whole run so far: the axis that all stages share."""
    attempt: int
    """Of the stage: a step that was trained again is there under a later one."""
    seconds: float
    """When, in seconds since 1970."""
    values: Mapping[str, float]
    """Finite, by `<stage>/<figure>`."""


@dataclass(frozen=True)
class TrackedRun:
    """A run as every tracker shows it: one run there for all of its stages."""

    name: str
    namespace: str
    uid: str
    plan_digest: str
    config: Mapping[str, Any]
    """The plan, without what is of this machine or cluster; it holds no secrets."""
    folder: Path
    """The workspace."""

    @property
    def id(self) -> str:
        """The same in every attempt and stage: 32 hexadecimal digits of the uid."""
        return self.uid.replace("-", "")

    @classmethod
    def of(cls, plan: Plan, folder: Path) -> TrackedRun:
        config = {name: value for name, value in plan.to_document().items() if name not in _UNTOLD}
        return cls(plan.run.name, plan.run.namespace, plan.run.uid, plan.digest, config, folder)


@dataclass(frozen=True)
class Conclusion:
    """What is told at the end of a run."""

    judged: Judged
    axis: int
    """Steps of the whole run."""
    seconds: float
    """When the model was made, in seconds since 1970: telling it twice tells the same."""
    metrics: Mapping[str, float]
    """All figures of the evaluation, by `evaluation/<metric>`."""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Verdict, reason, and digests of plan, data and model."""


@dataclass(frozen=True)
class Begun:
    link: str
    """Where people see the run."""
    axis: int | None = None
    """The last step of the whole run that the tracker says it has; None where it does not say."""


class Tracker(Protocol):
    """Every method raises TrackerAway or TrackerRefuses. None of them is called in the process that trains."""

    def begin(self) -> Begun:
        """Opens the run there, or makes it."""
        ...

    def rewind(self, axis: int) -> None:
        """Says that the steps from this one on come again, where the tracker can forget them."""
        ...

    def log(self, rows: Sequence[Row]) -> None:
        """Tells rows, in the order of the steps."""
        ...

    def conclude(self, conclusion: Conclusion) -> None: ...

    def end(self, outcome: Outcome) -> None:
        """Says how the run stands, and sends what is still to be sent."""
        ...
