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
from slipway_core.resources.training_run import TrainingRun

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
    """The newest ends of the server of the version that is waited for, see `on_its_way`. The oldest first."""
    details: Callable[[str], str | None] = lambda _told: None
    """Says what else shows why that version does not answer, beside what is told already."""
    unreadable: str | None = None
    """Why whoever waits may not read the endpoint, of which nothing is known then."""


@dataclass
class StartWait:
    """Looks on while the model of a run is waited for; asked whenever the run is looked at."""

    endpoint: str
    """Its name."""
    sight: Callable[[str | None], Sight | None]
    """Looks at the endpoint, for the model of this digest; None where it cannot be seen for a moment."""
    clock: Callable[[], datetime]
    within: timedelta | None = None
    """What whoever started the command asked for; `rollout.startTimeout` of the endpoint when None."""
    nothing_starts: timedelta | None = None
    """How long an endpoint may start no version of the model, where that is shorter than its startTimeout."""
    over: str | None = field(default=None, init=False)
    """Why the wait is over although the model does not answer; None while it is not."""
    answers: bool = field(default=False, init=False)
    """Whether the model answers as it was, and is waited for with other settings of its endpoint."""
    serves: bool = field(default=True, init=False)
    """Whether the endpoint answers with any version, as far as is known: whoever stops it stops that one too."""
    _seen: Sight | None = field(default=None, init=False)
    """The endpoint as it was when it was last looked at."""
    _since: datetime | None = field(default=None, init=False)
    _candidate: int | None = field(default=None, init=False)
    """The version of the candidate, where that is of the model."""
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
        seen = self.sight(model_of(status))
        if seen is None:
            # Maybe for a moment only; what began goes on.
            self.over = self._too_long(status, seen, now)
            return ()
        self._seen, self.answers, self.serves = seen, _serves(status, seen), _may_answer(seen)
        version, own = on_its_way(seen.status, model_of(status)), _candidate_of(status, seen)
        candidate = own.version if own is not None else None
        if self._begun is None or candidate != self._candidate:
            self._begun, self._candidate = now, candidate
        ends = [end for end in seen.ends if end.at >= self._since]
        self.over = self._too_often(status, seen, ends) or self._too_long(status, seen, now)
        if seen.unreadable is not None:
            return self._barred(seen.unreadable)
        fresh = [end for end in ends if end.why not in self._told]
        self._told.update(end.why for end in fresh)
        if self.over is not None or version is None:
            return ()
        starts = f"version {version.version} starts again, after"
        return tuple(Event("Warning", "ServerEnded", f"{starts} {end.why}") for end in fresh)

    def told(self, status: RunStatus) -> RunStatus:
        """Returns the status as whoever waits in front of it reads it: the endpoint's own reason stands where the run's
        names the command that shows it."""
        live, seen = conditions.find(status.conditions, "Live"), self._seen
        if not awaits(status) or live is None or seen is None:
            return status
        ready, candidate = _ready_of(status, seen), _candidate_of(status, seen)
        silent = ready is not None and ready.status == "False" and ready.reason == conditions.NOT_ANSWERING
        if live.reason == conditions.NOT_ANSWERING and ready is not None and silent:
            words = {"message": f"endpoint {self.endpoint} does not answer yet: {ready.message}"}
        elif live.status == "True" and candidate is not None and candidate.message:
            words = {"message": f"{live.message}: {candidate.message}"}
        else:
            return status
        rows = [
            row.model_copy(update=words) if row.type in ("Live", "Progressing") else row for row in status.conditions
        ]
        return status.model_copy(update={"conditions": rows})

    def _barred(self, why: str) -> tuple[Event, ...]:
        """Returns that the endpoint may not be read, where that was not told yet."""
        if why in self._told:
            return ()
        self._told.add(why)
        told = f"endpoint {self.endpoint} may not be read, so why the model does not answer is not known here: {why}"
        return (Event("Warning", "EndpointForbidden", told),)

    def _too_often(self, status: RunStatus, seen: Sight, ends: Sequence[ServerEnd]) -> str | None:
        # Whether a candidate has failed is its endpoint's to say, and so has its run then.
        version = on_its_way(seen.status, model_of(status))
        if version is None or self._candidate is not None:
            return None
        if not ends or ends[-1].in_a_row < FAILED_STARTS:
            return None
        last = ends[-1]
        return f"the server of version {version.version} ended {last.in_a_row} times in a row, at last: {last.why}"

    def _too_long(self, status: RunStatus, seen: Sight | None, now: datetime) -> str | None:
        since, most = self._bound(status, seen)
        if since is None or most is None or now - since < most:
            return None
        what = "it did not answer"
        if self.answers:
            named = self._candidate is not None
            what = f"version {self._candidate} did not answer" if named else "they were not taken up"
        return f"{what} within {in_words(most.total_seconds())}: {why_silent(status, seen)}"

    def _bound(self, status: RunStatus, seen: Sight | None) -> tuple[datetime | None, timedelta | None]:
        """Returns since when, and how long, the model is waited for; None for as long as its endpoint tries."""
        if self.within is not None:
            return self._since, self.within
        if seen is None or self._candidate is not None:
            return None, None  # The endpoint bounds a candidate itself.
        if _has_the_model(status, seen) or self.nothing_starts is None:
            return self._begun, seen.start_timeout
        return self._begun, min(seen.start_timeout, self.nothing_starts)


def awaits(status: RunStatus) -> bool:
    """Whether a model that passed is on its way to answering, or was live and does not answer."""
    return status.phase is Phase.ROLLING_OUT or not_answering(status) is not None


def is_awaited(run: TrainingRun) -> bool:
    """Whether the model of a run is waited for, by whoever looks on."""
    return run.spec.serving is not None and awaits(run.status or RunStatus())


def not_answering(status: RunStatus) -> str | None:
    """Returns what a run that is over says of its model that was live and does not answer; None where it answers."""
    live = conditions.find(status.conditions, "Live")
    silent = status.phase is Phase.SERVING and live is not None and live.reason == conditions.NOT_ANSWERING
    return live.message if silent and live is not None else None


def model_of(status: RunStatus) -> str | None:
    """Returns the digest of a run's model."""
    return status.artifact.digest if status.artifact is not None else None


def on_its_way(there: EndpointStatus, model: str | None) -> VersionStatus | None:
    """Returns the version of a model that is waited for: the candidate, or else the live version. None where neither is
    of that model: what becomes of another says nothing of it."""
    return next((one for one in (there.candidate, there.live) if one is not None and one.digest == model), None)


def _candidate_of(status: RunStatus, seen: Sight) -> VersionStatus | None:
    """Returns the candidate where it is of the run's model."""
    version = on_its_way(seen.status, model_of(status))
    return version if version is not None and version is seen.status.candidate else None


def _has_the_model(status: RunStatus, seen: Sight) -> bool:
    return seen.status.live is not None and seen.status.live.digest == model_of(status)


def _ready_of(status: RunStatus, seen: Sight) -> Condition | None:
    """Returns the condition Ready where it tells of the run's model: it tells of the live version."""
    return conditions.find(seen.status.conditions, "Ready") if _has_the_model(status, seen) else None


def _serves(status: RunStatus, seen: Sight) -> bool:
    own = conditions.find(status.conditions, "Live") if seen.unreadable is not None else _ready_of(status, seen)
    return own is not None and own.status == "True"


def _may_answer(seen: Sight) -> bool:
    ready = conditions.find(seen.status.conditions, "Ready")
    silent = seen.status.live is None or (ready is not None and ready.status == "False")
    return seen.unreadable is not None or not silent


def why_silent(status: RunStatus, seen: Sight | None) -> str:
    """Returns why a model that passed does not answer, by its endpoint and what runs there, or by its run."""
    told = _told(status, seen)
    details = seen.details(told) if seen is not None else None
    return f"{told.rstrip('.')}; {details}" if details else told


def _told(status: RunStatus, seen: Sight | None) -> str:
    if seen is not None:
        candidate, ready = _candidate_of(status, seen), _ready_of(status, seen)
        if candidate is not None and candidate.message:
            return candidate.message
        if ready is not None and ready.status == "False":
            return ready.message
    own = conditions.find(status.conditions, "Live")
    return own.message if own is not None else "nothing says why"
