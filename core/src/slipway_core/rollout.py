"""The life of an endpoint, as one pure function: which version runs, which one has the traffic, which one ends.

Invariant A: a version starts only with a passing verdict for its digest, or with `acceptUnjudged`.
Invariant B: traffic moves only to a version that is ready and has answered a real prompt, and the version that had
it stays ready until the new one has stood its probation. Recreate alone accepts a gap: it runs one version at a time,
and puts the last good one back when its successor fails.

An executor writes the status of a decision before it applies the rest: everything else is decided again from the
status and the world when it dies in between.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from slipway_core import conditions, uris
from slipway_core.api import seconds
from slipway_core.conditions import parse_timestamp, timestamp
from slipway_core.model_endpoint import EndpointTemplate, ModelEndpoint, ServedModel
from slipway_core.observed import Blocker, Event
from slipway_core.status import Condition, EndpointPhase, EndpointStatus, VersionStatus, fit

HISTORY = 16
"""Versions that status remembers."""
_MOVING = timedelta(seconds=1)
"""Between telling the traffic to move and looking whether it has."""
_OWN_CONDITIONS = ("Ready", "Judged", "RollbackUnknown")


@dataclass(frozen=True)
class VersionView:
    """A version's processes or Deployment as an executor sees them."""

    state: Literal["Starting", "Ready", "Unready", "Failed", "Stopping"]
    """Unready: ran and does not answer now. Failed: ended, or can never start. Stopping: told to end, not gone yet."""
    message: str | None = None
    answered: bool | None = None
    """Whether a real prompt was answered; None when none was asked yet."""
    waits: bool = False
    """It cannot begin for want of something outside: a place on a node, a claim. Its time to start stands still."""
    began: datetime | None = None
    """When it had all that it needs to start; its time to start counts from there where that is later."""


@dataclass(frozen=True)
class EndpointObserved:
    versions: Mapping[int, VersionView] = field(default_factory=dict[int, VersionView])
    """Every version that has anything running."""
    route: int | None = None
    """The version that gets the traffic."""
    passed: Set[str] = frozenset()
    """Digests of the artifacts that have a passing verdict."""
    url: str | None = None
    retry: str | None = None
    """The annotation slipway.dev/retry of the endpoint."""
    blockers: tuple[Blocker, ...] = ()
    """What keeps the executor from doing what the spec asks for; each is a condition while it lasts."""


@dataclass(frozen=True)
class EndpointDecision:
    status: EndpointStatus
    start: tuple[VersionStatus, ...] = ()
    """Versions that have to run; one that runs already is left alone."""
    probe: int | None = None
    """Version that has to be asked a real prompt."""
    route: int | None = None
    """Version that gets the traffic from now on; None leaves it where it is."""
    stop: tuple[int, ...] = ()
    """Versions to drain and end."""
    events: tuple[Event, ...] = ()
    look_again: timedelta | None = None


def step(endpoint: ModelEndpoint, observed: EndpointObserved, now: datetime) -> EndpointDecision:
    """Decides what an endpoint needs now. Pure; reads in the order in which a version comes to life."""
    draft = _Draft.of(endpoint, observed, now)
    _show_blockers(draft)
    _honour_retry(draft)
    _judge_live(draft)
    _choose_candidate(draft)
    _advance_candidate(draft)
    _retire_standby(draft)
    return draft.decide()


def revision_of(model: ServedModel, settings: EndpointTemplate) -> str:
    """Returns what tells two versions apart: the model, the Secret that it is fetched with, and every setting but those
    that apply in place.

    Settings that are at their default do not count, so that a release that adds one restarts nothing.
    """
    in_place = {"port", "replicas", "autoscaling", "rollout", "route", "model", "rollback_to"}
    frozen = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=in_place)
    secret = _secret_of(model)
    canonical = json.dumps([model.digest, frozen, *([secret] if secret else [])], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _secret_of(model: ServedModel) -> str | None:
    """Returns the Secret that a model is fetched with: the spec may still name that of another one."""
    return model.credentials if uris.parse(model.uri).remote else None


def _show_blockers(draft: _Draft) -> None:
    shown = {*_OWN_CONDITIONS, *(blocker.type for blocker in draft.observed.blockers)}
    draft.conditions = [c for c in draft.conditions if c.type in shown]
    draft.events += conditions.warnings(draft.was.conditions, draft.observed.blockers)
    for blocker in draft.observed.blockers:
        draft.condition(blocker.type, "True", blocker.reason, blocker.message)


def _honour_retry(draft: _Draft) -> None:
    if draft.observed.retry != draft.retry:
        draft.retry = draft.observed.retry
        draft.forgive = draft.retry is not None


def _judge_live(draft: _Draft) -> None:
    """Keeps the live version running; a new one that fails in its probation gives way to the one before."""
    live, standby = draft.live, draft.standby
    if live is None:
        return
    view = draft.observed.versions.get(live.version)
    sick = view is not None and view.state in ("Failed", "Unready") and not draft.makes_room
    if sick and standby is not None and (draft.is_ready(standby) or draft.one_at_a_time):
        return _roll_back(draft, live, standby, (view.message if view else None) or "it stopped answering")
    draft.start.append(live)
    draft.route = live.version


def _roll_back(draft: _Draft, live: VersionStatus, standby: VersionStatus, reason: str) -> None:
    draft.event(
        "Warning",
        "RolledBack",
        f"version {live.version} failed in its probation: {reason}; version {standby.version} is back",
    )
    draft.retire(live, "Failed", f"failed in its probation: {reason}")
    draft.stop.append(live.version)
    draft.history = [v for v in draft.history if v.version != standby.version]
    draft.live = standby.model_copy(update={"state": "Live", "since": timestamp(draft.now), "message": None})
    draft.start.append(draft.live)
    draft.route = draft.live.version


def _choose_candidate(draft: _Draft) -> None:
    """Makes a candidate of the model that the spec asks for, unless it is live, on its way, or has failed already."""
    wanted = _wanted(draft)
    if wanted is None:
        return
    may_start = _judged(draft, wanted)
    revision = revision_of(wanted, draft.endpoint.spec)
    if draft.live is not None and draft.live.revision == revision:
        if draft.candidate is not None:
            _drop_candidate(draft, "the spec asks for the live version again")
        return
    if draft.candidate is not None:
        if draft.candidate.revision == revision and may_start:
            return
        same = draft.candidate.revision == revision
        _drop_candidate(draft, "its verdict was taken back" if same else "the spec asks for another version")
    if draft.has_failed(revision) and not draft.forgive:
        return
    if may_start:
        _create_candidate(draft, wanted, revision)


def _judged(draft: _Draft, wanted: ServedModel) -> bool:
    """Shows whether the model passed its gates. Returns whether it may go live."""
    if wanted.digest in draft.observed.passed:
        draft.condition("Judged", "True", "Passed", "the model has a passing verdict")
        return True
    if wanted.accept_unjudged:
        draft.condition("Judged", "False", "AcceptedUnjudged", "the spec accepts this model without a verdict")
        return True
    draft.condition(
        "Judged",
        "False",
        "NoPassingVerdict",
        f"{wanted.digest} has no passing verdict, so no version of it starts; let a run judge it, or set "
        "model.acceptUnjudged",
    )
    return False


def _create_candidate(draft: _Draft, wanted: ServedModel, revision: str) -> None:
    # What runs counts too: where a status was lost, its number may be that of another model.
    known = [*(v.version for v in [*draft.history, *filter(None, [draft.live])]), *draft.observed.versions]
    number = 1 + max(known, default=0)
    draft.candidate = VersionStatus(
        version=number,
        uri=wanted.uri,
        digest=wanted.digest,
        revision=revision,
        run=wanted.run,
        credentials=_secret_of(wanted),
        accept_unjudged=wanted.accept_unjudged and wanted.digest not in draft.observed.passed,
        since=timestamp(draft.now),
    )
    draft.event("Normal", "CandidateStarting", f"version {number} starts ({wanted.digest})")


def _advance_candidate(draft: _Draft) -> None:
    """Starts the candidate, asks it a prompt once it is ready, and gives it the traffic once it has answered."""
    candidate = draft.candidate
    if candidate is None:
        return
    if draft.makes_room and draft.live is not None:
        _make_room(draft, draft.live)
    view = draft.observed.versions.get(candidate.version)
    if view is not None and view.state == "Failed":
        return _fail_candidate(draft, candidate, view.message or "its server ended")
    if view is not None and view.answered is False:
        return _fail_candidate(draft, candidate, view.message or "it did not answer a prompt")
    if view is not None and view.state == "Ready" and view.answered:
        return _take_over(draft, candidate)
    left = _time_to_start(draft, candidate, view)
    if left is not None and left <= timedelta(0) and view is not None:
        timeout = draft.endpoint.spec.rollout.start_timeout
        why = f": {view.message}" if view.message else ""
        return _fail_candidate(draft, candidate, f"it was not ready within {timeout}{why}")
    if left is not None and left <= timedelta(0):
        # Nothing of it runs, so its executor was away: its time begins now.
        candidate = candidate.model_copy(update={"since": timestamp(draft.now)})
    elif left is not None:
        draft.look(left)
    draft.start.append(candidate)
    if view is not None and view.state == "Ready":
        draft.probe = candidate.version
    message = (view.message if view else None) or "the server loads the model"
    draft.candidate = candidate.model_copy(update={"message": fit(message)})


def _time_to_start(draft: _Draft, candidate: VersionStatus, view: VersionView | None) -> timedelta | None:
    """Returns what is left of a candidate's start timeout; None while it waits for something outside.

    A live version that was stopped for it is not kept waiting: it comes back in time.
    """
    if view is not None and view.waits and not (draft.makes_room and draft.live is not None):
        return None
    begun = parse_timestamp(candidate.since)
    if view is not None and view.began is not None:
        begun = max(begun, view.began)
    return begun + timedelta(seconds=seconds(draft.endpoint.spec.rollout.start_timeout)) - draft.now


def _take_over(draft: _Draft, candidate: VersionStatus) -> None:
    if draft.live is not None:
        draft.retire(draft.live, "Standby", None)
    draft.live = candidate.model_copy(update={"state": "Live", "since": timestamp(draft.now), "message": None})
    draft.candidate = None
    draft.start.append(draft.live)
    draft.route = candidate.version
    draft.event("Normal", "TookOver", f"version {candidate.version} answered a prompt and is live")


def _fail_candidate(draft: _Draft, candidate: VersionStatus, reason: str) -> None:
    draft.retire(candidate, "Failed", reason)
    draft.stop.append(candidate.version)
    draft.candidate = None
    kept = f"; version {draft.live.version} stays live" if draft.live else ""
    draft.event("Warning", "CandidateFailed", f"version {candidate.version}: {reason}{kept}")
    if draft.live is not None and draft.live not in draft.start:
        # Recreate stopped it to make room; the last good version comes back.
        draft.stop = [version for version in draft.stop if version != draft.live.version]
        draft.start.append(draft.live)
        draft.route = draft.live.version


def _make_room(draft: _Draft, live: VersionStatus) -> None:
    """Ends the live version before the candidate starts."""
    draft.start = [v for v in draft.start if v.version != live.version]
    if live.version in draft.observed.versions:
        draft.stop.append(live.version)
    draft.route = None


def _drop_candidate(draft: _Draft, reason: str) -> None:
    assert draft.candidate is not None
    draft.retire(draft.candidate, "Dropped", reason)
    draft.stop.append(draft.candidate.version)
    draft.candidate = None


def _retire_standby(draft: _Draft) -> None:
    """Ends the version before the live one once that one has stood its probation, or was stopped in it."""
    live, standby = draft.live, draft.standby
    if standby is not None:
        ready = live is not None and draft.is_ready(live)
        stood = live is not None and not _in_probation(draft, live) and ready
        # Who stops an endpoint wants its pods and GPUs back. And one that is resumed does not answer at first, which is
        # no failed probation: a standby that does would take its place.
        stopped = draft.endpoint.spec.replicas == 0 and not ready
        if stood or stopped:
            draft.replace(standby.model_copy(update={"state": "Retired", "since": timestamp(draft.now)}))
        elif not draft.one_at_a_time:
            draft.start.append(standby)
    needed = {v.version for v in draft.start}
    for version in draft.observed.versions:
        if version not in needed and version not in draft.stop:
            draft.stop.append(version)


def _in_probation(draft: _Draft, live: VersionStatus) -> bool:
    probation = timedelta(seconds=seconds(draft.endpoint.spec.rollout.probation))
    left = parse_timestamp(live.since) + probation - draft.now
    if left > timedelta(0):
        draft.look(left)
    return left > timedelta(0)


def _wanted(draft: _Draft) -> ServedModel | None:
    spec = draft.endpoint.spec
    known = [*filter(None, [draft.live]), *draft.history]
    target = next((v for v in known if v.version == spec.rollback_to), None)
    if spec.rollback_to is not None and target is None:
        draft.condition(
            "RollbackUnknown", "True", "NoSuchVersion",
            f"spec.rollbackTo is {spec.rollback_to} and history has {sorted(v.version for v in known)}",
        )  # fmt: skip
        return None
    draft.conditions = conditions.drop(draft.conditions, "RollbackUnknown")
    if target is None:
        return spec.model
    return ServedModel(
        uri=target.uri,
        digest=target.digest,
        run=target.run,
        credentials=target.credentials,
        accept_unjudged=target.accept_unjudged,
    )


@dataclass
class _Draft:
    endpoint: ModelEndpoint
    observed: EndpointObserved
    now: datetime
    was: EndpointStatus
    live: VersionStatus | None
    candidate: VersionStatus | None
    history: list[VersionStatus]
    conditions: list[Condition]
    retry: str | None
    forgive: bool = False
    """Whether a model that failed before is tried again."""
    start: list[VersionStatus] = field(default_factory=list[VersionStatus])
    stop: list[int] = field(default_factory=list[int])
    probe: int | None = None
    route: int | None = None
    events: list[Event] = field(default_factory=list[Event])
    look_again: timedelta | None = None

    @classmethod
    def of(cls, endpoint: ModelEndpoint, observed: EndpointObserved, now: datetime) -> _Draft:
        was = endpoint.status or EndpointStatus()
        return cls(
            endpoint,
            observed,
            now,
            was,
            was.live,
            was.candidate,
            list(was.history),
            list(was.conditions),
            was.retry,
        )

    @property
    def standby(self) -> VersionStatus | None:
        return next((v for v in self.history if v.state == "Standby"), None)

    @property
    def one_at_a_time(self) -> bool:
        """Whether a version starts only once the one before it is gone."""
        return self.endpoint.spec.rollout.strategy == "Recreate"

    @property
    def makes_room(self) -> bool:
        """Whether the live version is stopped on purpose, for its candidate."""
        return self.one_at_a_time and self.candidate is not None

    def is_ready(self, version: VersionStatus) -> bool:
        view = self.observed.versions.get(version.version)
        return view is not None and view.state == "Ready"

    def has_failed(self, revision: str) -> bool:
        """Whether the newest version of this revision failed."""
        newest = next((v for v in self.history if v.revision == revision), None)
        return newest is not None and newest.state == "Failed"

    def look(self, after: timedelta) -> None:
        self.look_again = after if self.look_again is None else min(self.look_again, after)

    def event(self, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        self.events.append(Event(type_, reason, message))

    def condition(self, type_: str, status: conditions.Status, reason: str, message: str) -> None:
        generation = self.endpoint.metadata.generation
        self.conditions = conditions.put(self.conditions, type_, status, reason, message, self.now, generation)

    def retire(
        self, version: VersionStatus, state: Literal["Standby", "Failed", "Dropped"], message: str | None
    ) -> None:
        """Puts a version at the head of the history. One standby at a time: an older one is retired with it."""
        older = [
            v.model_copy(update={"state": "Retired"}) if state == "Standby" and v.state == "Standby" else v
            for v in self.history
            if v.version != version.version
        ]
        told = None if message is None else fit(message)
        update = {"state": state, "since": timestamp(self.now), "message": told}
        self.history = [version.model_copy(update=update), *older][:HISTORY]

    def replace(self, version: VersionStatus) -> None:
        self.history = [version if v.version == version.version else v for v in self.history]

    def decide(self) -> EndpointDecision:
        status = EndpointStatus(
            observed_generation=self.endpoint.metadata.generation,
            phase=self._phase(),
            conditions=self._conditions(),
            live=self.live,
            candidate=self.candidate,
            history=self.history,
            url=self.observed.url,
            retry=self.retry,
        )
        route = self.route if self.route != self.observed.route else None
        if self._traffic_moves:
            self.look(_MOVING)
        return EndpointDecision(
            status,
            self._starts(),
            self.probe,
            route,
            tuple(self.stop),
            tuple(self.events),
            self.look_again,
        )

    def _starts(self) -> tuple[VersionStatus, ...]:
        """Each version once; with Recreate none before every other one is gone."""
        wanted = {v.version: v for v in self.start}
        if self.one_at_a_time and any(version not in wanted for version in self.observed.versions):
            return ()
        return tuple(wanted.values())

    @property
    def _traffic_moves(self) -> bool:
        """Whether the live version could answer requests and they do not go to it yet."""
        return self.live is not None and self.is_ready(self.live) and self.observed.route != self.live.version

    @property
    def _is_stopped(self) -> bool:
        """Whether the live version does not answer because somebody wants no replica of it."""
        return self.live is not None and self.endpoint.spec.replicas == 0 and not self.is_ready(self.live)

    def _phase(self) -> EndpointPhase:
        if self.candidate is not None or self._traffic_moves:
            return EndpointPhase.ROLLING_OUT
        if self.live is not None and self._is_stopped:
            return EndpointPhase.STOPPED
        if self.live is not None:
            return EndpointPhase.SERVING if self.is_ready(self.live) else EndpointPhase.DEGRADED
        failed = bool(self.history) and self.history[0].state == "Failed"
        return EndpointPhase.FAILED if failed else EndpointPhase.PENDING

    def _conditions(self) -> list[Condition]:
        if self.live is None:
            self.condition("Ready", "False", "NoLiveVersion", "no version is live")
        elif self._traffic_moves:
            # What was decided is written before it is applied: whoever dies in between has said nothing untrue.
            routed = self.observed.versions.get(self.observed.route or 0)
            answers = routed is not None and routed.state == "Ready"
            message = f"the traffic moves to version {self.live.version}"
            self.condition("Ready", "True" if answers else "False", "TrafficMoves", message)
        elif self.is_ready(self.live):
            self.condition("Ready", "True", "Answering", f"version {self.live.version} answers")
        elif self._is_stopped:
            name = self.endpoint.metadata.name
            back = f"`slipway resume endpoint/{name}`, or more replicas, brings version {self.live.version} back"
            self.condition("Ready", "False", "Stopped", f"spec.replicas is 0, so nothing answers; {back}")
        else:
            view = self.observed.versions.get(self.live.version)
            starts = "it is stopped while its successor starts" if self.makes_room else "its server starts"
            message = (view.message if view else None) or starts
            self.condition("Ready", "False", "NotAnswering", f"version {self.live.version}: {message}")
        self._tell_of_change()
        return self.conditions

    def _tell_of_change(self) -> None:
        before, after = conditions.find(self.was.conditions, "Ready"), conditions.find(self.conditions, "Ready")
        if before is not None and after is not None and before.status != after.status:
            meant = after.status == "True" or after.reason == "Stopped"
            self.event("Normal" if meant else "Warning", after.reason, after.message)
