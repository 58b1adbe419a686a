"""A small world to run the lifecycle in: an executor that applies decisions, and hands that move things."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from tests.unit.core.runs import DIGEST, a_plan

from slipway_core.lifecycle import step as lifecycle
from slipway_core.lifecycle.decision import Decision
from slipway_core.lifecycle.endpoint_claim import Claim
from slipway_core.lifecycle.observed import Attempt, EndpointView, Observed
from slipway_core.plan import Plan
from slipway_core.protocol.estimate import Estimate
from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.protocol.step_result import EvaluationResult, StepError, StepResult
from slipway_core.resources.events import Event
from slipway_core.resources.status import (
    ArtifactStatus,
    EndpointPhase,
    EndpointStatus,
    Phase,
    Progress,
    RunStatus,
    StepStatus,
    VersionStatus,
)
from slipway_core.resources.training_run import TrainingRun

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class World:
    run: TrainingRun
    plan: Plan = field(init=False)
    now: datetime = NOON
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    endpoint: EndpointView | None = None
    decisions: list[Decision] = field(default_factory=list)
    promotions: int = 0

    def __post_init__(self) -> None:
        self.plan = a_plan(self.run)

    @property
    def phase(self) -> Phase:
        assert self.run.status
        return self.run.status.phase

    def condition(self, type_: str):
        assert self.run.status
        return next((c for c in self.run.status.conditions if c.type == type_), None)

    def record(self, step: str) -> StepStatus:
        assert self.run.status
        record = self.run.status.step(step)
        assert record
        return record

    def observed(self) -> Observed:
        return Observed({step: tuple(attempts) for step, attempts in self.attempts.items()}, self.endpoint)

    def decide(self) -> Decision:
        return lifecycle.step(self.run, self.plan, self.observed(), self.now)

    def reconcile(self, *, dies_before: int | None = None) -> Decision:
        """One pass of an executor. It dies before the write of that number, so the rest of the writes are lost."""
        decision = self.decide()
        writes = [*self._deletes(decision), *self._creates(decision), *self._promotes(decision)]
        writes.append(lambda: self._save(decision))
        for write in writes[:dies_before]:
            write()
        self.decisions.append(decision)
        return decision

    def settle(self) -> None:
        """Passes until nothing changes any more."""
        for _ in range(50):
            before = self.run.status
            decision = self.reconcile()
            if self.run.status == before and not (decision.create or decision.delete or decision.promote):
                return
        raise AssertionError("the lifecycle does not settle")

    # What hands can do to the world

    def running(self) -> list[tuple[str, Attempt]]:
        return [(step, a) for step, attempts in self.attempts.items() for a in attempts if a.state != "Ended"]

    def reach(self, step: str, training_step: int) -> None:
        self._change(step, state="Running", progress=Progress(step=training_step, total=100))

    def end(self, step: str, exit_class: ExitClass, result: StepResult | None = None, message: str = "boom") -> None:
        self._change(step, state="Ended", exit_class=exit_class, result=result, message=message, finished_at=self.now)

    def succeed(self, step: str, **result) -> None:
        number = self.attempts[step][-1].number
        if step == "export":
            result.setdefault("artifact", ArtifactStatus(uri="file:///artifact", digest=DIGEST))
        if step == "evaluate":
            result.setdefault("metrics", {"perplexity": 10.0})
            result.setdefault("evaluation", EvaluationResult(number=number, artifact_digest=DIGEST, scored_tokens=1000))
            if result["evaluation"] is not None:
                result["evaluation"] = self._sure(result["evaluation"], result["metrics"])
        self.end(step, ExitClass.DONE, StepResult(step=step, attempt=number, **result))

    def _sure(self, evaluation: EvaluationResult, metrics: dict[str, float]) -> EvaluationResult:
        """Returns an evaluation whose estimates say that the figures are exact."""
        if evaluation.estimates:
            return evaluation
        estimates = []
        for gate in self.plan.evaluation.gates:
            value, others = metrics.get(gate.metric), evaluation.baseline_metrics
            other = (evaluation.base_metrics if gate.against_base else others).get(gate.metric)
            if value is not None and gate.max_regression is not None:
                value = None if other is None else value - other
            estimates.append(None if value is None else Estimate(value, value, value, 1000, 40))
        return evaluation.model_copy(update={"estimates": estimates})

    def fail(self, step: str, kind: str = "Internal", exit_class: ExitClass = ExitClass.FAILED) -> None:
        number = self.attempts[step][-1].number
        error = StepError(kind=kind, message="it broke")
        self.end(step, exit_class, StepResult(step=step, attempt=number, error=error))

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def goes_live(self, digest: str = DIGEST, version: int = 1, credentials: str | None = None) -> None:
        live = VersionStatus(
            version=version,
            uri="file:///live",
            digest=digest,
            credentials=credentials,
            state="Live",
            since="2026-01-01T00:00:00Z",
        )
        self._endpoint_status(live=live, phase=EndpointPhase.SERVING)

    def candidate_fails(self, digest: str = DIGEST) -> None:
        failed = VersionStatus(
            version=9, uri="x", digest=digest, state="Failed", since="2026-01-01T00:00:00Z", message="it crashed"
        )
        self._endpoint_status(history=[failed])

    def through(self, *steps: str) -> None:
        for step in steps:
            self.settle()
            self.succeed(step)
        self.settle()

    def _endpoint_status(self, **update) -> None:
        view = self.endpoint or EndpointView(status=EndpointStatus())
        self.endpoint = replace(view, status=view.status.model_copy(update=update), current=True)

    def _change(self, step: str, **update) -> None:
        self.attempts[step][-1] = replace(self.attempts[step][-1], **update)

    def _creates(self, decision: Decision):
        def create(wanted):
            attempts = self.attempts.setdefault(wanted.step, [])
            if all(a.number != wanted.number for a in attempts):
                attempts.append(Attempt(wanted.number, "Starting", self.now))

        return [lambda wanted=wanted: create(wanted) for wanted in decision.create]

    def _deletes(self, decision: Decision):
        return [
            lambda unwanted=unwanted: self._change(
                unwanted.step, state="Ended", exit_class=ExitClass.INTERRUPTED, finished_at=self.now
            )
            for unwanted in decision.delete
        ]

    def _promotes(self, decision: Decision):
        promote = decision.promote
        if promote is None:
            return []

        def tell():
            self.promotions += 1
            view = self.endpoint or EndpointView(status=EndpointStatus())
            metadata = self.run.metadata
            claim = Claim(promote.run, promote.digest, metadata.creation_timestamp or "", metadata.uid or "")
            status = view.status.model_copy(update={"retry": promote.retry})
            self.endpoint = replace(view, claim=claim, status=status, current=False)

        return [tell]

    def _save(self, decision: Decision) -> None:
        """As the API server does: what breaks a limit of the schema is refused."""
        RunStatus.model_validate(decision.status.model_dump())
        self.run = self.run.model_copy(update={"status": decision.status})


def events_of(decision: Decision) -> list[str]:
    return [event.reason for event in decision.events if isinstance(event, Event)]
