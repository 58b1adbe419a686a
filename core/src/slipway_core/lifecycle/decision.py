"""What a run needs now, as `step` decides it. Absence from a decision never means delete."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from slipway_core.protocol.commands import Baseline, Inputs
from slipway_core.resources.events import Event
from slipway_core.resources.status import RunStatus


@dataclass(frozen=True)
class CreateAttempt:
    step: str
    number: int
    baseline: Baseline | None = None
    """For evaluate, when a gate compares with it."""
    inputs: Inputs = field(default_factory=Inputs)
    """What the record says of that which the step reads in the workspace."""


@dataclass(frozen=True)
class DeleteAttempt:
    """Stop an attempt with SIGTERM and its grace period, and remove it."""

    step: str
    number: int
    reason: str


@dataclass(frozen=True)
class Promote:
    """Make the endpoint serve this artifact; create it from the run's template when it does not exist."""

    endpoint: str
    uri: str
    digest: str
    run: str
    retry: str | None = None


@dataclass(frozen=True)
class Decision:
    """What to do now. Absence from it never means delete."""

    status: RunStatus
    create: tuple[CreateAttempt, ...] = ()
    delete: tuple[DeleteAttempt, ...] = ()
    promote: Promote | None = None
    events: tuple[Event, ...] = ()
    look_again: timedelta | None = None
    """When time alone changes the decision; None waits for the world to change."""
