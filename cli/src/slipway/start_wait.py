"""How long a command waits for a model that passed to answer, on this machine or in a cluster. Its endpoint goes on
trying, as its lifecycle says: nothing but the wait ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway_core.resources import conditions
from slipway_core.resources.api import in_words
from slipway_core.resources.events import Event
from slipway_core.resources.status import Condition, EndpointStatus, Phase, RunStatus, VersionStatus

FAILED_STARTS = 3
"""Ends of a server in a row after which it is one that cannot start. One that still loads has not ended, however long
that takes."""


@dataclass(frozen=True)
class ServerEnd:
    """The end of a version's server that nobody asked for."""

    at: datetime
    """When it was, or was seen, by the clock of whoever waits."""
    why: str
    in_a_row: int
    """Its number among the ends since the version answered last."""


@dataclass(frozen=True)
class Sight:
    """An endpoint as it is when it is looked at."""

    status: EndpointStatus
    start_timeout: timedelta
    """`rollout.startTimeout`."""
    ends: Sequence[ServerEnd] = ()
    """The newest ends of the server of the version that is on its way: of the candidate where there is one. The oldest
    first."""
    details: Callable[[], str | None] = lambda: None
    """Says what else shows why that version does not answer."""

    @property
    def on_its_way(self) -> VersionStatus | None:
        return self.status.candidate or self.status.live


@dataclass
class StartWait:
    """Looks on while the model of a run is waited for; asked whenever the run is looked at."""

    endpoint: str
    """Its name."""
    sight: Callable[[], Sight | None]
    """Looks at the endpoint; None where it cannot be seen."""
    clock: Callable[[], datetime]
    within: timedelta | None = None
    """What whoever started the command asked for; `rollout.startTimeout` of the endpoint when None."""
    nothing_starts: timedelta | None = None
    """How long an endpoint may start no version of the model, where that is shorter than its startTimeout."""
    over: str | None = field(default=None, init=False)
    """Why the wait is over although the model does not answer; None while it is not."""
    _ready: Condition | None = field(default=None, init=False)
    """What the endpoint said of itself when it was last looked at."""
    _since: datetime | None = field(default=None, init=False)
    _candidate: int | None = field(default=None, init=False)
    _begun: datetime | None = field(default=None, init=False)
    """When what is waited for now began: a candidate, or the live version."""
    _told: set[str] = field(default_factory=set[str], init=False)

    def look(self, status: RunStatus) -> tuple[Event, ...]:
        """Returns what is new to tell of servers that ended, and sets `over` where the wait is."""
        if not awaits(status):
            self._since = self._begun = None
            return ()
        now = self.clock()
        if self._since is None:
            self._since = now
        seen = self.sight()
        if seen is None:
            # Maybe for a moment only; what began goes on.
            self.over = self._too_long(status, seen, now)
            return ()
        self._ready = conditions.find(seen.status.conditions, "Ready")
        candidate = seen.status.candidate.version if seen.status.candidate is not None else None
        if self._begun is None or candidate != self._candidate:
            self._begun, self._candidate = now, candidate
        ends = [end for end in seen.ends if end.at >= self._since]
        self.over = self._too_often(seen, ends) or self._too_long(status, seen, now)
        fresh = [end for end in ends if end.why not in self._told]
        self._told.update(end.why for end in fresh)
        if self.over is not None or seen.on_its_way is None:
            return ()
        starts = f"version {seen.on_its_way.version} starts again, after"
        return tuple(Event("Warning", "ServerEnded", f"{starts} {end.why}") for end in fresh)

    def told(self, status: RunStatus) -> RunStatus:
        """Returns the status as whoever waits in front of it reads it: the endpoint's own reason stands where the run's
        names the command that shows it."""
        live, ready = conditions.find(status.conditions, "Live"), self._ready
        if not awaits(status) or live is None or live.reason != conditions.NOT_ANSWERING:
            return status
        if ready is None or ready.status != "False" or ready.reason != conditions.NOT_ANSWERING:
            return status
        words = {"message": f"endpoint {self.endpoint} does not answer yet: {ready.message}"}
        rows = [
            row.model_copy(update=words) if row.type in ("Live", "Progressing") else row for row in status.conditions
        ]
        return status.model_copy(update={"conditions": rows})

    def _too_often(self, seen: Sight, ends: Sequence[ServerEnd]) -> str | None:
        # Whether a candidate has failed is its endpoint's to say, and so has its run then.
        if seen.status.candidate is not None or seen.status.live is None:
            return None
        if not ends or ends[-1].in_a_row < FAILED_STARTS:
            return None
        last, version = ends[-1], seen.status.live.version
        return f"the server of version {version} ended {last.in_a_row} times in a row, at last: {last.why}"

    def _too_long(self, status: RunStatus, seen: Sight | None, now: datetime) -> str | None:
        since, most = self._bound(status, seen)
        if since is None or most is None or now - since < most:
            return None
        return f"it did not answer within {in_words(most.total_seconds())}: {why_silent(status, seen)}"

    def _bound(self, status: RunStatus, seen: Sight | None) -> tuple[datetime | None, timedelta | None]:
        """Returns since when, and how long, the model is waited for; None for as long as its endpoint tries."""
        if self.within is not None:
            return self._since, self.within
        if seen is None or self._candidate is not None:
            return None, None  # The endpoint bounds a candidate itself.
        made = status.artifact.digest if status.artifact is not None else None
        starts = seen.status.live is not None and seen.status.live.digest == made
        if starts or self.nothing_starts is None:
            return self._begun, seen.start_timeout
        return self._begun, min(seen.start_timeout, self.nothing_starts)


def awaits(status: RunStatus) -> bool:
    """Whether a model that passed is on its way to answering, or was live and does not answer."""
    return status.phase is Phase.ROLLING_OUT or silence(status) is not None


def silence(status: RunStatus) -> str | None:
    """Returns what a run that is over says of its model that was live and does not answer; None where it answers."""
    live = conditions.find(status.conditions, "Live")
    silent = status.phase is Phase.SERVING and live is not None and live.reason == conditions.NOT_ANSWERING
    return live.message if silent and live is not None else None


def why_silent(status: RunStatus, seen: Sight | None) -> str:
    """Returns why a model that passed does not answer, by its endpoint and what runs there, or by its run."""
    told, details = _told(status, seen), seen.details() if seen is not None else None
    return told if not details or details in told else f"{told}; {details}"


def _told(status: RunStatus, seen: Sight | None) -> str:
    there = seen.status if seen is not None else EndpointStatus()
    ready, own = conditions.find(there.conditions, "Ready"), conditions.find(status.conditions, "Live")
    if there.candidate is not None and there.candidate.message:
        return there.candidate.message
    if there.live is not None and ready is not None and ready.status == "False":
        return ready.message
    return own.message if own is not None else "nothing says why"
