"""What follows the verdict: it is told to the trackers, and a model that passed is pushed.

It goes on beside the run and holds nothing back: the verdict stands whatever becomes of it, a model that passed goes
live meanwhile, and a run is over although it is still tried. The condition Published says how it is.
"""

from __future__ import annotations

import hashlib
import json

from slipway_core.lifecycle import attempts
from slipway_core.lifecycle.annotations import RETRY_ANNOTATION
from slipway_core.lifecycle.decision import DeleteAttempt
from slipway_core.lifecycle.draft import PUBLISHED, Draft
from slipway_core.protocol.judged import Judged
from slipway_core.resources.status import EvaluationStatus, RunStatus, StepState, StepStatus, Verdict

STEP = "publish"


def publish(draft: Draft) -> None:
    """Brings the step one on, beside whatever else the run does. Nothing of it is decided here but the step itself."""
    evaluation = draft.evaluation
    if not draft.plan.publishes or evaluation is None:
        return
    running = attempts.account(draft, STEP)
    if draft.run.spec.suspend:
        # A run that is over begins nothing before it may go on, and what is under way may be in somebody's way.
        if running is not None:
            draft.delete.append(DeleteAttempt(STEP, running.number, "the run is suspended"))
            draft.update(STEP, suspended_attempt=running.number)
            draft.condition(PUBLISHED, "False", "Suspended", "it goes on once spec.suspend is false")
        return
    if running is not None:
        message = attempts.under_way(STEP, running.number)
        if running.elsewhere == "Waiting":
            message = attempts.move(draft, STEP, running)
        draft.condition(PUBLISHED, "False", "Publishing", message)
        return
    if draft.plan.tracking is None and evaluation.verdict is not Verdict.PASS:
        draft.condition(PUBLISHED, "False", "NotPassed", _not_pushed(evaluation))
        return
    _begin_anew_about(draft, _subject(draft, evaluation))
    record = draft.steps[STEP]
    match record.state:
        case StepState.SUCCEEDED:
            draft.condition(PUBLISHED, "True", "Published", _said(draft, evaluation))
        case StepState.FAILED:
            words = f"set the annotation {RETRY_ANNOTATION} to a new value to try it again; the verdict stands"
            draft.condition(PUBLISHED, "False", "PublishFailed", f"{record.message}; {words}")
        case _:
            _go_on(draft)


def is_under_way(status: RunStatus) -> bool:
    """Whether something is still published, or tried again after a pause."""
    record = status.step(STEP)
    return record is not None and record.state in (StepState.RUNNING, StepState.WAITING)


def _go_on(draft: Draft) -> None:
    wait = attempts.backoff_left(draft, STEP)
    if wait.total_seconds() > 0:
        draft.look_again = wait
        record = draft.steps[STEP]
        draft.condition(PUBLISHED, "False", "BackingOff", f"it is tried again: {record.message}")
        return
    attempts.create(draft, STEP)
    draft.condition(PUBLISHED, "False", "Publishing", attempts.under_way(STEP, draft.steps[STEP].attempt))


def _begin_anew_about(draft: Draft, subject: str) -> None:
    """Forgets how it went where the model was judged again since, or is to be told elsewhere."""
    record = draft.steps[STEP]
    if record.subject == subject:
        return
    draft.steps[STEP] = StepStatus(
        name=STEP, state=StepState.PENDING, attempt=record.attempt, subject=subject, **record.unknown
    )


def _subject(draft: Draft, evaluation: EvaluationStatus) -> str:
    tracking, push = draft.plan.tracking, draft.plan.export.push
    about = [
        Judged.of(evaluation).to_document(),
        tracking.to_document() if tracking is not None else None,
        push.to_document() if push is not None else None,
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _said(draft: Draft, evaluation: EvaluationStatus) -> str:
    tracking, push = draft.plan.tracking, draft.plan.export.push
    told = [f"the verdict {evaluation.verdict} is in {', '.join(tracking.names)}"] if tracking is not None else []
    if push is not None:
        passed = evaluation.verdict is Verdict.PASS
        told.append(f"the model is in {push.uri}" if passed else _not_pushed(evaluation))
    return "; ".join(told)


def _not_pushed(evaluation: EvaluationStatus) -> str:
    return f"nothing is pushed, for the verdict is {evaluation.verdict}"
