"""A decision about a run while it is being made."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway_core.lifecycle import required_gates
from slipway_core.lifecycle.decision import CreateAttempt, Decision, DeleteAttempt, Promote
from slipway_core.lifecycle.observed import Observed
from slipway_core.plan import Plan
from slipway_core.resources import conditions
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.events import Event
from slipway_core.resources.status import (
    ArtifactStatus,
    Condition,
    EvaluationStatus,
    Phase,
    RunEndpointStatus,
    RunStatus,
    StepState,
    StepStatus,
    fit,
)
from slipway_core.resources.training_run import TrainingRun

STEP_WARNING = "StepWarning"
"""Condition of a run whose step goes on although something is wrong."""
WARNED = "Warned"
"""Its reason, and that of the Event."""
STEP_WARNED = "StepWarned"
"""Reason of the Event by which a step that is done, or has failed, tells what it has found; its record keeps that."""
FOLDER_ADOPTED = "FolderAdopted"
"""Reason of the condition Planned, and of the Event: the run goes on in the folder of an earlier one."""
PUBLISHED = "Published"
"""Condition of a run that tells its verdict to trackers, or pushes its model."""
OWN_CONDITIONS = ("Planned", "Progressing", "Passed", "Live", PUBLISHED)
"""Conditions of the run itself. Each other one is there for as long as something is in the way."""


@dataclass(frozen=True)
class Policy:
    """How patient the lifecycle is. Executors differ in the time scale alone."""

    backoff: timedelta = timedelta(seconds=10)
    """Wait after the first counted failure; doubled for each further one."""
    longest_backoff: timedelta = timedelta(minutes=5)
    stalls: int = 3
    """Interruptions in a row of a training stage, without progress, that count as one failure."""
    restarts: int = 10
    """The same of a step that takes no training steps. Preempted it begins anew, so that being interrupted says little
    of it; one that its own hunger for memory or disk has evicted, for ever, does come to an end."""
    half_placed: timedelta = timedelta(minutes=10)
    """How long an attempt may hold places for some of its processes while others find none, where an older run waits in
    the same way. Where none does it has twice as long, and twice as long again after each time that it gave way."""
    patience: timedelta = timedelta(hours=1)
    """How long those have to go on at the least: nodes that are drained in turns are no fault of a run."""


@dataclass
class Draft:
    """The decision while it is being made."""

    run: TrainingRun
    plan: Plan
    observed: Observed
    now: datetime
    policy: Policy
    was: RunStatus
    steps: dict[str, StepStatus]
    conditions: list[Condition]
    evaluation: EvaluationStatus | None
    artifact: ArtifactStatus | None
    held_out_digest: str | None
    held_out_sketch: str | None
    gate_data: list[str]
    training_data: dict[str, str] | None
    endpoint: RunEndpointStatus | None
    retry: str | None
    create: list[CreateAttempt] = field(default_factory=list[CreateAttempt])
    delete: list[DeleteAttempt] = field(default_factory=list[DeleteAttempt])
    events: list[Event] = field(default_factory=list[Event])
    promote: Promote | None = None
    look_again: timedelta | None = None

    @classmethod
    def of(cls, run: TrainingRun, plan: Plan, observed: Observed, now: datetime, policy: Policy) -> Draft:
        was = run.status or RunStatus()
        steps = {name: was.step(name) or StepStatus(name=name, state=StepState.PENDING) for name in plan.steps}
        draft = cls(
            run, plan, observed, now, policy, was, steps,
            list(was.conditions), was.evaluation, was.artifact, was.held_out_digest,
            was.held_out_sketch, list(was.gate_data), was.training_data, was.endpoint, was.retry,
        )  # fmt: skip
        draft.show_plan()
        return draft

    def show_plan(self) -> None:
        """Says which plan it is, and of a run that goes on in an earlier one's folder how to begin at zero instead."""
        digest = f"the plan has the digest {self.plan.digest}"
        if self.plan.folder is None:
            self.condition("Planned", "True", "Resolved", digest)
            return
        words = (
            f"goes on in the folder pvc://{self.plan.place} of an earlier run of this name, with the data that was "
            f"read then; to begin at zero, `slipway rm --now {self.run.name}` and create it again"
        )
        known = conditions.find(self.was.conditions, "Planned")
        if known is None or known.reason != FOLDER_ADOPTED:
            self.event("Normal", FOLDER_ADOPTED, words)
        self.condition("Planned", "True", FOLDER_ADOPTED, f"{digest}; {words}")

    def condition(self, type_: str, status: conditions.Status, reason: str, message: str) -> None:
        generation = self.run.metadata.generation
        self.conditions = conditions.put(self.conditions, type_, status, reason, message, self.now, generation)

    def show_blockers(self) -> None:
        """Shows what is in the way, and what a step says is wrong although it goes on."""
        queued, warning = self.observed.queued, self._warning()
        over = self.was.phase.finished
        digest = self.artifact.digest if self.artifact is not None else None
        view = self.observed.endpoint
        lacking = None if over else required_gates.foreseen(self.plan, view, self.gate_data, digest)
        blockers = [*self.observed.blockers, *filter(None, [queued, warning, lacking])]
        generation = self.run.metadata.generation
        own = [name for name in OWN_CONDITIONS if name != PUBLISHED or self.plan.publishes]
        self.conditions = conditions.with_blockers(self.conditions, own, blockers, self.now, generation)
        told = [blocker for blocker in blockers if blocker is not queued]
        self.events += conditions.warnings(self.was.conditions, told)

    def _warning(self) -> Blocker | None:
        for name, attempts in self.observed.attempts.items():
            for attempt in attempts:
                # A process that does not answer for a moment has not taken its warning back.
                progress = attempt.progress or (self.steps[name].progress if name in self.steps else None)
                if attempt.state == "Running" and progress is not None and progress.warning:
                    return Blocker(STEP_WARNING, WARNED, f"{name}: {progress.warning}")
        return None

    def event(self, type_: str, reason: str, message: str) -> None:
        self.events.append(Event("Warning" if type_ == "Warning" else "Normal", reason, message))

    def update(self, name: str, **fields: object) -> None:
        if isinstance(message := fields.get("message"), str):
            fields["message"] = fit(message)
        self.steps[name] = self.steps[name].model_copy(update=fields)

    def decide(self, phase: Phase) -> Decision:
        if phase is not self.was.phase:
            self.event("Normal", "PhaseChanged", f"{self.was.phase} → {phase}")
        status = RunStatus(
            observed_generation=self.run.metadata.generation,
            phase=phase,
            conditions=self.conditions,
            plan_digest=self.plan.digest,
            # As it was planned; what an older release planned says it nowhere, and is not written anew for that.
            train_image=self.was.train_image if self.was.plan_digest else self.plan.images.train or None,
            folder=self._folder(),
            held_out_digest=self.held_out_digest,
            held_out_sketch=self.held_out_sketch,
            gate_data=self.gate_data,
            training_data=self.training_data,
            stages=list(self.steps.values()),
            evaluation=self.evaluation,
            artifact=self.artifact,
            endpoint=self.endpoint,
            warnings=self._warnings() or None,
            retry=self.retry,
            **self.was.unknown,
        )
        return Decision(
            status, tuple(self.create), tuple(self.delete), self.promote, tuple(self.events), self.look_again
        )

    def _warnings(self) -> int:
        known = [step.progress for step in self.steps.values() if step.progress is not None]
        return sum(len(progress.warnings or ()) + (progress.warning is not None) for progress in known)

    def _folder(self) -> str | None:
        """As it was planned. A run that is back from a backup of an older release may have found its folder since."""
        unknown = self.was.folder is None and (self.was.plan_digest is None or self.plan.folder is not None)
        return self.plan.workspace_folder if unknown else self.was.folder
