"""What an evaluation says of a model, whether it may go live (invariant A), and when it is judged again."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_core.lifecycle import remedy
from slipway_core.lifecycle import verdict as verdicts
from slipway_core.lifecycle.annotations import REEVALUATE_ANNOTATION, request_token
from slipway_core.lifecycle.draft import Draft
from slipway_core.lifecycle.endpoint_claim import is_later
from slipway_core.lifecycle.observed import Attempt
from slipway_core.lifecycle.promotion import is_over, is_promoted, stays_out
from slipway_core.lifecycle.retry import DAMAGED_DATA, prepare_again
from slipway_core.protocol.commands import Baseline
from slipway_core.resources.status import (
    EvaluationStatus,
    MetricStatus,
    Phase,
    StepState,
    StepStatus,
    Verdict,
    fit,
)

DAMAGED_ARTIFACT = "BadArtifact:"
"""How the message of an evaluation begins that found the artifact damaged."""


def judge(draft: Draft, attempt: Attempt) -> None:
    """Holds the evaluation against the gates and records the verdict."""
    evaluation = attempt.result.evaluation if attempt.result else None
    if evaluation is None or attempt.result is None:
        _inconclusive(draft, attempt.number, attempt.result_error or "the evaluation reported nothing")
        return
    artifact = draft.artifact
    if artifact is None or evaluation.artifact_digest != artifact.digest:
        _inconclusive(draft, attempt.number, f"the evaluation was of {evaluation.artifact_digest}, not of the artifact")
        return
    if draft.held_out_digest not in (None, evaluation.data_digest):
        found = evaluation.data_digest or "data without a digest"
        _inconclusive(draft, attempt.number, f"the evaluation was upon {found}, not upon the held-out data of prepare")
        return
    judgement = verdicts.judge(
        draft.plan.evaluation.gates,
        verdicts.Measured.of(attempt.result, evaluation),
        win_rate_over=draft.plan.evaluation.win_rate_over,
    )
    draft.evaluation = EvaluationStatus(
        number=attempt.number,
        verdict=judgement.verdict,
        metrics=_with_data(draft, judgement.metrics),
        scored_tokens=evaluation.scored_tokens,
        data_digest=evaluation.data_digest,
        artifact_digest=evaluation.artifact_digest,
        baseline_digest=evaluation.baseline_digest,
        baseline_overlap=evaluation.baseline_overlap,
        baseline_note=evaluation.baseline_note,
        base_digest=evaluation.base_digest,
        recall_overlap=evaluation.recall_overlap,
        parity_digest=evaluation.parity_digest,
        judge=evaluation.judge,
        reason=fit(judgement.reason) or None,
        says_nothing=_says_nothing(draft, judgement.says_nothing),
        reevaluation=_reevaluation(draft),
        judgements=(draft.evaluation.times_judged if draft.evaluation else 0) + 1,
    )
    draft.event(
        "Normal" if judgement.verdict is Verdict.PASS else "Warning",
        "Judged",
        f"{judgement.verdict}: {judgement.reason}",
    )
    if evaluation.baseline_overlap and evaluation.baseline_note:
        draft.event("Warning", "LiveHasLearnedIt", evaluation.baseline_note)


def _with_data(draft: Draft, metrics: Sequence[MetricStatus]) -> list[MetricStatus]:
    """Returns gates with the digest of what each was measured on, by the record: prepare told it, and the evaluation
    was upon the data that prepare told of."""
    digests = draft.gate_data
    if draft.held_out_digest is None or len(digests) != len(metrics):
        return list(metrics)
    return [one.model_copy(update={"data": digest}) for one, digest in zip(metrics, digests, strict=True)]


def note_crashed_evaluation(draft: Draft, name: str, attempt: Attempt) -> None:
    """An evaluation that cannot be completed is inconclusive: the model is neither good nor bad."""
    record = draft.steps[name]
    if name == "evaluate" and record.state is StepState.FAILED:
        _inconclusive(draft, attempt.number, f"the evaluation failed: {record.message}", says_nothing=True)


def _says_nothing(draft: Draft, found: bool) -> bool | None:
    """Returns True of a judgement that says nothing of the model; None of any other, and of one behind which another of
    this run did not pass: the record has room for one, and what was said of the model stays said. It takes back what
    another run let pass in between, too: whether that was before or after, this record cannot tell."""
    before = draft.evaluation
    said = before is not None and before.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE) and not before.says_nothing
    return True if found and not said else None


def _inconclusive(draft: Draft, number: int, reason: str, *, says_nothing: bool = False) -> None:
    draft.evaluation = EvaluationStatus(
        number=number,
        verdict=Verdict.INCONCLUSIVE,
        artifact_digest=draft.artifact.digest if draft.artifact else None,
        reason=fit(reason),
        says_nothing=_says_nothing(draft, says_nothing),
        reevaluation=_reevaluation(draft),
        judgements=(draft.evaluation.times_judged if draft.evaluation else 0),
    )
    draft.event("Warning", "Judged", f"Inconclusive: {reason}")


def stopped_by_the_gate(draft: Draft) -> Phase | None:
    """Returns the phase of a run whose model may not go live, None when it may."""
    evaluation = draft.evaluation
    verdict = evaluation.verdict if evaluation else Verdict.INCONCLUSIVE
    reason = (evaluation.reason if evaluation else None) or verdict.value
    match verdict:
        case Verdict.PASS:
            draft.condition("Passed", "True", "GatesPassed", reason)
            return None
        case Verdict.NOT_APPLICABLE:
            draft.condition("Passed", "Unknown", "NoGates", "no gate applied to this model")
            return None if draft.plan.serving is None else _hold(draft, "no gate applied to this model")
        case Verdict.FAIL:
            draft.condition("Passed", "False", "GateFailed", reason)
            draft.condition("Progressing", "False", "Rejected", f"the model did not pass: {reason}")
            return Phase.REJECTED
        case Verdict.INCONCLUSIVE:
            draft.condition("Passed", "Unknown", "Inconclusive", reason)
            if draft.plan.evaluation.on_inconclusive == "Reject":
                draft.condition("Progressing", "False", "Rejected", f"could not be judged: {reason}")
                return Phase.REJECTED
            return _hold(draft, reason)


def _hold(draft: Draft, reason: str) -> Phase:
    again = f"set the annotation {REEVALUATE_ANNOTATION} to a new value"
    fix = remedy.of_held(draft.evaluation, draft.run.name, again)
    draft.condition("Progressing", "False", "Held", f"could not be judged: {reason}; {fix}")
    return Phase.HELD


def must_judge_again(draft: Draft) -> bool:
    """Opens the evaluation again when a held run is asked to, or when the live version is no longer the one that
    the model was compared with. Says whether it did."""
    evaluation, record = draft.evaluation, draft.steps["evaluate"]
    if evaluation is None or draft.run.spec.suspend:
        return False
    wish = request_token(draft.run.metadata.annotations, REEVALUATE_ANNOTATION)
    held = evaluation.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE)
    asked = held and wish is not None and wish != evaluation.reevaluation
    if not asked and not _baseline_moved(draft, evaluation):
        return False
    cause = "asked for" if asked else "the live version changed since"
    draft.event("Normal", "Reevaluating", f"the model is judged again: {cause}")
    if (record.message or "").startswith(DAMAGED_ARTIFACT):
        # The weights that it is made from are still there; export writes it anew where it is not as it was.
        draft.update("export", state=StepState.WAITING, finished_at=None)
    if (record.message or "").startswith(DAMAGED_DATA):
        prepare_again(draft)
    known = StepStatus(name="evaluate", state=StepState.PENDING, attempt=record.attempt, **record.unknown)
    draft.steps["evaluate"] = known
    return True


def waits_to_be_judged(draft: Draft) -> Phase | None:
    """Returns the phase of a run that is over and suspended, and whose model would be judged again before a rollout:
    the live version is no longer the one that it was compared with. None for any other."""
    evaluation = draft.evaluation
    if not draft.run.spec.suspend or evaluation is None or not _baseline_moved(draft, evaluation):
        return None
    message = "the live version changed since the model was judged; it is judged again once spec.suspend is false"
    draft.condition("Live", "False", "Suspended", message)
    return draft.was.phase


def _reevaluation(draft: Draft) -> str | None:
    return request_token(draft.run.metadata.annotations, REEVALUATE_ANNOTATION)


def lacks_baseline(draft: Draft) -> str:
    """Returns why the live version that a gate compares with is not known; empty where none does, or it is."""
    view = draft.observed.endpoint
    return view.unreadable if view is not None and _compares(draft) else ""


def baseline(draft: Draft) -> Baseline | None:
    """Returns the live version that a gate compares with, if any gate does and one is live that is not ours."""
    view = draft.observed.endpoint
    if view is None or not _compares(draft):
        return None
    live = view.status.live
    if live is None or draft.artifact is None or live.digest == draft.artifact.digest:
        return None
    return Baseline(live.uri, live.digest, live.credentials)


def _compares(draft: Draft) -> bool:
    return draft.plan.serving is not None and draft.plan.evaluation.compares_with("Live")


def _baseline_moved(draft: Draft, evaluation: EvaluationStatus) -> bool:
    if evaluation.verdict is not Verdict.PASS or is_promoted(draft) or stays_out(draft):
        return False
    view, serving = draft.observed.endpoint, draft.plan.serving
    if serving is not None and is_over(draft, serving.endpoint, view):
        return False  # What goes live there now is somebody else's choice, and no rollout follows.
    if view is not None and view.claim is not None and is_later(view.claim, draft.run, draft.plan.run.uid):
        return False  # The endpoint is a later run's: there is no rollout to be judged for.
    live = baseline(draft)
    return live is not None and live.digest != evaluation.baseline_digest
