"""A decision about an endpoint while it is being made."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from slipway_core.protocol.trust import Flaw
from slipway_core.resources import conditions
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.events import Event
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.promotion import JUDGED, PROMOTION_CONDITIONS
from slipway_core.resources.status import (
    AwaitingStatus,
    Condition,
    EndpointPhase,
    EndpointStatus,
    HeldOutStatus,
    VersionStatus,
    fit,
)
from slipway_core.rollout.decision import EndpointDecision
from slipway_core.rollout.observed import EndpointObserved, Proof

HISTORY = 16
"""Versions that status remembers."""

_MOVING = timedelta(seconds=1)
"""Between telling the traffic to move and looking whether it has."""

ROLLBACK_WITHOUT_EFFECT = "RollbackWithoutEffect"
KEY_REVOKED = "KeyRevoked"
"""Condition while the only verdict on the model is signed by a key that is trusted no more."""
PARITY_FAILED = "ParityFailed"
PARITY_UNKNOWN = "ParityUnknown"
HELD_OUT_WORN = "HeldOutWorn"
_OWN_CONDITIONS = (
    "Ready",
    JUDGED,
    "RollbackUnknown",
    ROLLBACK_WITHOUT_EFFECT,
    KEY_REVOKED,
    PARITY_FAILED,
    PARITY_UNKNOWN,
    *PROMOTION_CONDITIONS,
    HELD_OUT_WORN,
)


@dataclass
class Draft:
    endpoint: ModelEndpoint
    observed: EndpointObserved
    now: datetime
    was: EndpointStatus
    live: VersionStatus | None
    candidate: VersionStatus | None
    history: list[VersionStatus]
    conditions: list[Condition]
    held_out: HeldOutStatus | None
    retry: str | None
    forgive: bool = False
    """Whether a model that failed before is tried again."""
    start: list[VersionStatus] = field(default_factory=list[VersionStatus])
    stop: list[int] = field(default_factory=list[int])
    probe: int | None = None
    route: int | None = None
    events: list[Event] = field(default_factory=list[Event])
    look_again: timedelta | None = None
    parity_unknown: tuple[str, str] | None = None
    """Reason and message, where the model that is asked for may not start."""
    held_back: tuple[str, str, str] | None = None
    """Condition, reason and message, where the endpoint asks for more than the model has."""
    awaiting: AwaitingStatus | None = None

    @classmethod
    def of(cls, endpoint: ModelEndpoint, observed: EndpointObserved, now: datetime) -> Draft:
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
            was.held_out,
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

    def show_blockers(self) -> None:
        blockers = self.observed.blockers
        generation = self.endpoint.metadata.generation
        self.conditions = conditions.with_blockers(self.conditions, _OWN_CONDITIONS, blockers, self.now, generation)
        self.events += conditions.warnings(self.was.conditions, blockers)

    def event(self, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        self.events.append(Event(type_, reason, message))

    def condition(self, type_: str, status: conditions.Status, reason: str, message: str) -> None:
        generation = self.endpoint.metadata.generation
        self.conditions = conditions.put(self.conditions, type_, status, reason, message, self.now, generation)

    def show_revoked(self, digest: str, proof: Proof | None) -> None:
        """Shows whether a model has no verdict but one that is signed by a revoked key."""
        if proof is None or proof.flaw is not Flaw.KEY_REVOKED:
            self.conditions = conditions.drop(self.conditions, KEY_REVOKED)
            return
        self.condition(KEY_REVOKED, "True", "VerdictNotTrusted", fit(f"{digest}: {proof.why}"))

    def retire(
        self, version: VersionStatus, state: Literal["Standby", "Failed", "Dropped", "Retired"], message: str | None
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
            held_out=self.held_out,
            passed=self._passed(),
            awaiting_approval=self.awaiting,
            url=self.observed.url,
            retry=self.retry,
            **self.was.unknown,
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

    def _passed(self) -> str | None:
        model = self.endpoint.spec.model
        return model.digest if model is not None and model.digest in self.observed.passed else None

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

    def _why_none(self) -> str:
        """Returns what the version failed of that was tried last; nothing while another one is on its way."""
        newest = self.history[0] if self.history and self.candidate is None else None
        if newest is None or newest.state != "Failed":
            return ""
        return f": version {newest.version} failed" + (f": {newest.message}" if newest.message else "")

    def _conditions(self) -> list[Condition]:
        if self.live is None:
            self.condition("Ready", "False", "NoLiveVersion", fit(f"no version is live{self._why_none()}"))
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
            self.condition("Ready", "False", conditions.STOPPED, f"spec.replicas is 0, so nothing answers; {back}")
        else:
            view = self.observed.versions.get(self.live.version)
            starts = "it is stopped while its successor starts" if self.makes_room else "its server starts"
            message = (view.message if view else None) or starts
            self.condition("Ready", "False", conditions.NOT_ANSWERING, f"version {self.live.version}: {message}")
        self._tell_of_change()
        return self.conditions

    def _tell_of_change(self) -> None:
        before, after = conditions.find(self.was.conditions, "Ready"), conditions.find(self.conditions, "Ready")
        if before is not None and after is not None and before.status != after.status:
            meant = after.status == "True" or after.reason == conditions.STOPPED
            self.event("Normal" if meant else "Warning", after.reason, after.message)
