"""The local executor of a run: observe, step, apply, write one status, again until there is nothing to do.

It is the twin of the operator's reconcile, and decides nothing itself: policy is `lifecycle.step` alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.local.endpoints import daemon
from slipway.local.runs.attempts import Attempts
from slipway.local.state import RunFolder, State, StateError
from slipway.local.statements import Statements
from slipway.start_wait import StartWait, awaits
from slipway_core.lifecycle import step as lifecycle
from slipway_core.lifecycle.decision import Decision, Promote
from slipway_core.lifecycle.draft import Policy
from slipway_core.lifecycle.endpoint_claim import annotations_of, claim_on
from slipway_core.lifecycle.observed import EndpointView, Observed
from slipway_core.lifecycle.publication import is_under_way
from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.events import Event
from slipway_core.resources.metadata import Metadata
from slipway_core.resources.model_endpoint import EndpointTemplate, ModelEndpoint, ModelEndpointSpec, ServedModel
from slipway_core.resources.status import EndpointPhase, EndpointStatus, Phase, RunStatus
from slipway_core.resources.training_run import TrainingRun

POLICY = Policy(backoff=timedelta(seconds=1), longest_backoff=timedelta(seconds=30))
"""A person waits in front of it, and no control plane has to be spared."""
SEEN_WITHIN = timedelta(seconds=60)
"""How long an endpoint is waited for that has to see a verdict which was signed again; it looks every second."""

Show = Callable[[RunStatus, tuple[Event, ...]], None]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Executor:
    """Brings one run as far as it goes. Whoever uses it holds RunFolder.lock."""

    state: State
    folder: RunFolder
    run: TrainingRun
    plan: Plan
    attempts: Attempts
    show: Show
    clock: Callable[[], datetime] = utc_now
    tick: float = 0.25
    """Seconds between two looks at the world."""
    wait: StartWait | None = None
    """Bounds how long the model is waited for once it is told to its endpoint; without it that has no end."""
    interrupted: bool = field(default=False, init=False)
    only_waits: bool = field(default=False, init=False)
    """Whether no step is at work and the endpoint alone starts the model: who interrupts that suspends nothing."""
    statements: Statements = field(init=False)
    _signed_again: datetime | None = field(default=None, init=False)
    """When a verdict was signed anew by which the endpoint may start the model that it took the traffic from."""

    def __post_init__(self) -> None:
        self.statements = Statements(self.state)

    def interrupt(self) -> None:
        """Checkpoint and end; a second call kills what has not ended yet. Safe in a signal handler."""
        if self.interrupted:
            self.attempts.kill()
        self.interrupted = True

    def work(self) -> RunStatus:
        """Works until the run is finished, or suspended and quiet. Returns its status.

        Raises OSError when the state cannot be written (a full disk): what was written stays whole.
        """
        if self.run.status is not None and (unsigned := self._sign(self.run.status)) is not None:
            raise unsigned
        while True:
            if self.interrupted and self.only_waits:
                assert self.run.status is not None
                return self.run.status
            # As the pass saw it: an interrupt that comes during a pass is for the next one, which ends what this one
            # has started.
            interrupted = self.interrupted
            decision, busy = self._pass(interrupted)
            phase = decision.status.phase
            # What is told of a verdict goes on beside the run; somebody who interrupts it waits for its process alone.
            at_work = busy if interrupted else is_under_way(decision.status)
            waits = self._waits(decision.status) and not interrupted
            if (phase.finished and not at_work and not waits) or (phase is Phase.SUSPENDED and not busy):
                return decision.status
            if self.gave_up is not None and not at_work:
                return decision.status
            time.sleep(self.tick)

    @property
    def gave_up(self) -> str | None:
        """Why the model was not waited for any longer; None where that did not happen."""
        return self.wait.over if self.wait is not None and not self.interrupted else None

    def _waits(self, status: RunStatus) -> bool:
        """Whether a model that is live and does not answer is waited for."""
        return self.wait is not None and self.wait.over is None and awaits(status)

    def _pass(self, interrupted: bool) -> tuple[Decision, bool]:
        """Looks once, decides once, applies it, writes the status when it changed."""
        run = self._suspended() if interrupted else self.run
        observed = self._observe()
        decision = lifecycle.step(run, self.plan, observed, self.clock(), POLICY)
        busy = any(a.state != "Ended" for attempts in observed.attempts.values() for a in attempts)
        # Before it is applied: a daemon takes its time to start.
        self.only_waits = awaits(decision.status) and not busy and not is_under_way(decision.status)
        self._apply(decision)
        self.run = self.run.model_copy(update={"status": decision.status})
        return decision, busy

    def _suspended(self) -> TrainingRun:
        """What an interrupted run is until somebody starts it again."""
        return self.run.model_copy(update={"spec": self.run.spec.model_copy(update={"suspend": True})})

    def _observe(self) -> Observed:
        return Observed(attempts=self.attempts.observe(), endpoint=self._endpoint())

    def _endpoint(self) -> EndpointView | None:
        if self.plan.serving is None:
            return None
        folder = self.state.endpoint(self.plan.serving.endpoint)
        if not folder.exists():
            # Whoever starts a run again asks for its endpoint too, if `slipway rm` took that away.
            return EndpointView()
        endpoint = folder.load()
        model, claim = endpoint.spec.model, claim_on(endpoint)
        # A template that was changed since is told anew: a local endpoint has no other editor.
        ours_as_told = (
            model is None or model.run != self.run.name or _settings(endpoint.spec) == _settings(self._template)
        )
        if not ours_as_told:
            claim = None
        status = folder.status()
        current = status.observed_generation == endpoint.metadata.generation and status.phase != EndpointPhase.STOPPED
        current = current and not self._has_to_see(status)
        return EndpointView(claim, status, current, endpoint.spec.rollback_to)

    def _has_to_see(self, status: EndpointStatus) -> bool:
        """Whether the endpoint is about to start the model again, by a verdict that was signed anew."""
        since, made = self._signed_again, self.run.status.artifact if self.run.status is not None else None
        serves = status.live is not None and made is not None and status.live.digest == made.digest
        if since is not None and (serves or status.candidate or self.clock() - since > SEEN_WITHIN):
            self._signed_again = None
        return self._signed_again is not None

    def _apply(self, decision: Decision) -> None:
        for unwanted in decision.delete:
            self.attempts.stop(unwanted.step, unwanted.number)
        for wanted in decision.create:
            self.attempts.start(wanted)
        unsigned = self._sign(decision.status)
        if decision.promote is not None and unsigned is None:
            self._promote(decision.promote)
        if decision.events:
            self._remember(decision.events)
        if decision.status != (self.run.status or RunStatus()):
            self.folder.save_status(decision.status)
        heard = self.wait.look(decision.status) if self.wait is not None and not self.interrupted else ()
        shown = self.wait.told(decision.status) if self.wait is not None else decision.status
        self.show(shown, (*decision.events, *heard))
        if unsigned is not None:
            # After the status, which has the verdict: the same command signs it once there is a key.
            raise unsigned
        if decision.status.phase is Phase.ROLLING_OUT and self.plan.serving is not None:
            # After the status: a daemon that cannot start must not take the verdict with it. The next pass tries again.
            daemon.ensure_daemon(self.state, self.plan.serving.endpoint)

    def _sign(self, status: RunStatus) -> StateError | None:
        """Signs the verdict where the endpoint finds it, for longer than the run lives. Returns why it cannot."""
        try:
            record = self.folder.workspace(self.run).parity(status.evaluation.number if status.evaluation else 0)
            if self.statements.keep(self.plan, status, self._learned, record):
                self._signed_again = self.clock()
        except StateError as error:
            return error
        return None

    def _learned(self) -> dict[str, str]:
        try:
            return artifact.read(self.folder.workspace(self.run).artifact).data
        except ArtifactError:
            return {}

    def _promote(self, promote: Promote) -> None:
        """Tells the endpoint what to serve. The settings are the run's template: a local endpoint has no other."""
        folder = self.state.endpoint(promote.endpoint)
        old = folder.load() if folder.exists() else None
        notes = annotations_of(promote, self.run, self.plan)
        spec = ModelEndpointSpec(
            **_settings(self._template), model=ServedModel(uri=promote.uri, digest=promote.digest, run=promote.run)
        )
        if old is not None and old.spec == spec and old.metadata.annotations == notes:
            return  # It was told already, and has not said so yet.
        generation = (old.metadata.generation or 0) + 1 if old is not None else 1
        metadata = Metadata(name=promote.endpoint, annotations=notes, generation=generation)
        folder.save(ModelEndpoint(metadata=metadata, spec=spec))

    @property
    def _template(self) -> EndpointTemplate:
        assert self.plan.serving is not None
        return self.plan.serving.template

    def _remember(self, events: tuple[Event, ...]) -> None:
        self.folder.events.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.events.open("a", encoding="utf-8") as file:
            for event in events:
                row = {"time": timestamp(self.clock()), "type": event.type, "reason": event.reason}
                file.write(json.dumps({**row, "message": event.message}, ensure_ascii=False) + "\n")


def _settings(template: EndpointTemplate) -> dict[str, Any]:
    """Returns the settings of an endpoint without its model, as fields of a ModelEndpointSpec."""
    return {name: getattr(template, name) for name in EndpointTemplate.model_fields}
