"""What the API server does not take, as a condition, and what a run's status says then. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from slipway_core.lifecycle.decision import CreateAttempt, Decision, Promote
from slipway_core.lifecycle.draft import PUBLISHED
from slipway_core.lifecycle.publication import STEP as PUBLISH
from slipway_core.plan import ATTEMPTS_APART
from slipway_core.resources import conditions
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.status import CONDITION_LIMIT, Phase, RunStatus, StepState, StepStatus, fit
from slipway_core.resources.training_run import TrainingRun
from slipway_operator.common.owned_objects import TakenError
from slipway_operator.common.signing_key import SigningKeyError
from slipway_operator.manifests.errors import ManifestError

CONDITION = "Refused"


@dataclass(frozen=True)
class Refusal:
    """A call that was refused while a decision was applied, and what was not done because of it."""

    reason: str
    message: str
    not_created: tuple[CreateAttempt, ...] = ()
    not_promoted: Promote | None = None

    @property
    def blocker(self) -> Blocker:
        return Blocker(CONDITION, self.reason, self.message)


def reason(error: Exception) -> str:
    """Returns the reason of the condition."""
    match error:
        case ManifestError() | SigningKeyError():
            return error.reason
        case TakenError():
            return "NameTaken"
        case _:
            return type(error).__name__


def status_after(run: TrainingRun, decision: Decision, refusal: Refusal, now: datetime) -> RunStatus:
    """Returns what of a decision's status holds nevertheless: what has ended is recorded, for its Jobs and pods may go,
    and an attempt that was not created is not, so that it is created under the same number later."""
    stages = list(decision.status.stages)
    was = run.status or RunStatus()
    for wanted in refusal.not_created:
        stages = [_before(stage, wanted, was) if stage.name == wanted.step else stage for stage in stages]
    if was.plan_digest is None and not any(stage.attempt for stage in stages):
        # Nothing of it has run, and a spec that is to blame may be mended for as long as no plan is recorded.
        return refused(run, was, refusal, now)
    words: dict[str, str] = {}
    for wanted in refusal.not_created:
        shown = PUBLISHED if wanted.step == PUBLISH else "Progressing"
        words[shown] = f"{wanted.step} cannot start: {refusal.message}"
    if refusal.not_promoted is not None:
        told = f"endpoint {refusal.not_promoted.endpoint} cannot be told to serve the model: {refusal.message}"
        words |= {"Live": told, "Progressing": told}
    own = [
        condition.model_copy(update={"message": fit(words.get(condition.type, condition.message), CONDITION_LIMIT)})
        for condition in decision.status.conditions
    ]
    told_before = conditions.find(was.conditions, CONDITION)
    own += [told_before] if told_before is not None else []
    # As with a pod that cannot start: no step is at work, and the alert about runs that wait goes by the phase.
    waits = any(wanted.step != PUBLISH for wanted in refusal.not_created)
    phase = Phase.PENDING if waits else decision.status.phase
    update = {"stages": stages, "conditions": own, "phase": phase}
    return refused(run, decision.status.model_copy(update=update), refusal, now)


def refused(run: TrainingRun, status: RunStatus, refusal: Refusal, now: datetime) -> RunStatus:
    """Returns a status with the condition."""
    generation = run.metadata.generation
    own = conditions.put(status.conditions, CONDITION, "True", refusal.reason, refusal.message, now, generation)
    return status.model_copy(update={"conditions": own, "observed_generation": generation})


def _before(record: StepStatus, wanted: CreateAttempt, was: RunStatus) -> StepStatus:
    earlier = was.step(record.name)
    layout = {name: getattr(earlier, name, None) for name in ("nodes", "processes_per_node")}
    # The attempts of a run that goes on in the folder of an earlier one are counted from a round number on.
    begins = wanted.number % ATTEMPTS_APART == 1 and (earlier is None or earlier.attempt == 0)
    if wanted.number == 1 or begins:
        return record.model_copy(update={"state": StepState.PENDING, "attempt": 0, "started_at": None, **layout})
    return record.model_copy(update={"state": StepState.WAITING, "attempt": wanted.number - 1, **layout})
