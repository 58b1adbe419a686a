"""How long `slipway run` waits for a model that passed to answer. Its endpoint goes on trying, as its lifecycle says:
nothing but the wait ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway.local.state import EndpointFolder, ServerEnd
from slipway_core.resources import conditions
from slipway_core.resources.api import in_words, seconds
from slipway_core.resources.events import Event
from slipway_core.resources.status import Condition, EndpointStatus, Phase, RunStatus

FAILED_STARTS = 3
"""Ends of a server in a row after which it is one that cannot start. One that still loads has not ended, however long
that takes."""

NOTHING_STARTS = timedelta(minutes=1)
"""How long an endpoint may start no version of the model: it looks four times a second, and would have by then."""


@dataclass
class StartWait:
    """Looks on while the model of a run is waited for; asked in every pass of the run's executor."""

    endpoint: EndpointFolder
    clock: Callable[[], datetime]
    within: timedelta | None = None
    """What whoever started the command asked for; `rollout.startTimeout` of the endpoint when None."""
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
        now, there = self.clock(), self.endpoint.status()
        self._ready = conditions.find(there.conditions, "Ready")
        candidate = there.candidate.version if there.candidate is not None else None
        if self._since is None:
            self._since = now
        if self._begun is None or candidate != self._candidate:
            self._begun, self._candidate = now, candidate
        version = there.live.version if there.live is not None else None
        # A candidate whose server ends has failed at once, and so has its run.
        ends = self.endpoint.server_ends(version) if version is not None and candidate is None else []
        ends = [end for end in ends if end.at >= self._since]
        self.over = self._too_often(version, ends) or self._too_long(status, there, now)
        fresh = [end for end in ends if end.why not in self._told]
        self._told.update(end.why for end in fresh)
        if self.over is not None:
            return ()
        return tuple(
            Event("Warning", "ServerEnded", f"version {version} starts again, after {end.why}") for end in fresh
        )

    def told(self, status: RunStatus) -> RunStatus:
        """Returns the status as whoever waits in front of it reads it: the endpoint's own reason stands where the run's
        names the command that shows it."""
        live, ready = conditions.find(status.conditions, "Live"), self._ready
        if not awaits(status) or live is None or live.reason != conditions.NOT_ANSWERING:
            return status
        if ready is None or ready.status != "False" or ready.reason != conditions.NOT_ANSWERING:
            return status
        words = {"message": f"endpoint {self.endpoint.name} does not answer yet: {ready.message}"}
        rows = [
            row.model_copy(update=words) if row.type in ("Live", "Progressing") else row for row in status.conditions
        ]
        return status.model_copy(update={"conditions": rows})

    def _too_often(self, version: int | None, ends: list[ServerEnd]) -> str | None:
        if not ends or ends[-1].in_a_row < FAILED_STARTS:
            return None
        last = ends[-1]
        return f"the server of version {version} ended {last.in_a_row} times in a row, at last: {last.why}"

    def _too_long(self, status: RunStatus, there: EndpointStatus, now: datetime) -> str | None:
        assert self._since is not None
        assert self._begun is not None
        if self.within is not None:
            waited, most = now - self._since, self.within
        elif self._candidate is not None:
            return None  # The endpoint bounds a candidate itself.
        else:
            own = timedelta(seconds=seconds(self.endpoint.load().spec.rollout.start_timeout))
            made = status.artifact.digest if status.artifact is not None else None
            starts = there.live is not None and there.live.digest == made
            waited, most = now - self._begun, own if starts else min(own, NOTHING_STARTS)
        if waited < most:
            return None
        return f"it did not answer within {in_words(most.total_seconds())}: {_why(status, there)}"


def awaits(status: RunStatus) -> bool:
    """Whether a model that passed is on its way to answering, or was live and does not answer."""
    live = conditions.find(status.conditions, "Live")
    silent = status.phase is Phase.SERVING and live is not None and live.reason == conditions.NOT_ANSWERING
    return status.phase is Phase.ROLLING_OUT or silent


def _why(status: RunStatus, there: EndpointStatus) -> str:
    ready, own = conditions.find(there.conditions, "Ready"), conditions.find(status.conditions, "Live")
    if there.candidate is not None and there.candidate.message:
        return there.candidate.message
    if there.live is not None and ready is not None and ready.status == "False":
        return ready.message
    return own.message if own is not None else "nothing says why"
