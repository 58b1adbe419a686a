"""What an executor sees of the world of a run, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from slipway_core.lifecycle.endpoint_claim import Claim
from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.protocol.step_result import StepResult
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.promotion import Promotion
from slipway_core.resources.status import EndpointStatus, Progress


@dataclass(frozen=True)
class Attempt:
    """One attempt of a step: a Job and its pods, or a local process."""

    number: int
    state: Literal["Starting", "Running", "Ended"]
    """Ended only when every process of it is gone: a new attempt never runs beside an old one."""
    started_at: datetime
    exit_class: ExitClass | None = None
    """Set when Ended."""
    message: str | None = None
    """Why it ended or does not start, in the executor's words: `exit code 137 (killed, perhaps out of memory)`."""
    result: StepResult | None = None
    result_error: str | None = None
    """Why there is no result although the process ended."""
    finished_at: datetime | None = None
    progress: Progress | None = None
    job: str | None = None
    """uid of its Job; None for a local process."""
    nodes: int | None = None
    """Pods that it was made with; None where the executor does not say."""
    processes_per_node: int | None = None
    elsewhere: Literal["Waiting", "Placed"] | None = None
    """Set where the resource has it run elsewhere than it was made for: Waiting while no process of it has a place."""
    half_placed: HalfPlaced | None = None
    """Set while some of its processes have a place and hold it, and others find none; of one that has ended, whether
    that was so to its end."""


@dataclass(frozen=True)
class HalfPlaced:
    since: datetime
    placed: int
    """Processes, or pods, that have a place."""
    wanted: int
    elder: bool = False
    """Whether an older run waits in the same way: that one is to get all of its places first."""


@dataclass(frozen=True)
class EndpointView:
    """A ModelEndpoint as a run sees it."""

    claim: Claim | None = None
    status: EndpointStatus = field(default_factory=EndpointStatus)
    current: bool = True
    """Whether the status is about what the endpoint was last told."""
    rollback_to: int | None = None
    """spec.rollbackTo: the version that somebody wants back, before any model that the endpoint is told."""
    promotion: Promotion | None = None
    """spec.promotion: what the endpoint asks of a model beyond a pass."""
    unreadable: str = ""
    """Why the endpoint that is there cannot be read; the other fields say nothing then."""


@dataclass(frozen=True)
class Observed:
    """The world of one run. It is complete: what is absent here does not exist."""

    attempts: Mapping[str, tuple[Attempt, ...]] = field(default_factory=dict[str, tuple[Attempt, ...]])
    endpoint: EndpointView | None = None
    """None when the endpoint does not exist."""
    queued: Blocker | None = None
    """Set while a queue holds the current attempt back."""
    blockers: tuple[Blocker, ...] = ()
