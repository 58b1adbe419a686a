"""Whether a new version has what its endpoint asks for: gates that are strict enough, and somebody's approval.

Only what is to start is asked, whoever brings it: a run, a hand, a rollback, or other settings of the same model. What
is live stays so (invariant B). Gates come before the approval, so nobody is asked about a model that would not start.
"""

from __future__ import annotations

from collections.abc import Iterable

from slipway_core.resources import conditions
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.model_endpoint import ModelEndpoint, ServedModel
from slipway_core.resources.promotion import (
    APPROVAL_REFUSED,
    AWAITING_APPROVAL,
    LACKS_REQUIRED_GATE,
    PROMOTION_CONDITIONS,
    Promotion,
)
from slipway_core.resources.required_gates import HAD_TRAFFIC, held_against, served_beside, shortfalls
from slipway_core.resources.status import ApprovalStatus, AwaitingStatus, VersionStatus, fit
from slipway_core.rollout.draft import Draft
from slipway_core.rollout.observed import Approval, Judged

APPROVED_BY_ANNOTATION = "slipway.dev/approved-by"
"""Who approved what an endpoint waited for: an admission policy lets nobody write another name than their own."""
APPROVED_DIGEST_ANNOTATION = "slipway.dev/approved-digest"
"""Digest of the model that they approved."""
APPROVED_EVALUATION_ANNOTATION = "slipway.dev/approved-evaluation"
"""Number of the evaluation that they approved, 0 where none was known."""
APPROVED_RUN_ANNOTATION = "slipway.dev/approved-run"
"""The uid of the run whose evaluation that is: the first one of another run has the same number, of the same model. It
is not there where no run is known."""
OWN_CODE = "its own code ran where it was judged (model.trustRemoteCode), and may have written its figures"
"""What whoever is to approve a model is told where `AwaitingStatus.remote_code` says so."""
_USER_LIMIT = 1024


def may_start(draft: Draft, wanted: ServedModel, revision: str) -> bool:
    """Whether a version of the model may start, as far as the endpoint asks for more than a pass."""
    promotion = draft.endpoint.spec.promotion
    if promotion is None or (draft.live is not None and draft.live.revision == revision):
        return True
    return _has_required_gates(draft, promotion, wanted) and _is_approved(draft, promotion, wanted)


def approval_of(draft: Draft, digest: str) -> ApprovalStatus | None:
    """Returns the approval by which a version of a model starts; None where none is asked for."""
    promotion = draft.endpoint.spec.promotion
    if promotion is None or promotion.mode != "Approval":
        return None
    if (recorded := _recorded(draft, digest)) is not None:
        return recorded
    given = approval_on(draft.endpoint)
    waits = _waits(draft, digest)
    if not draft.observed.approvals_guarded or given is None:
        return None
    if (given.digest, given.evaluation, given.run_uid) != (digest, waits.evaluation, waits.run_uid):
        return None
    return ApprovalStatus(
        user=given.user,
        evaluation=given.evaluation,
        run=waits.run,
        run_uid=waits.run_uid,
        at=timestamp(draft.now),
    )


def is_outdated(draft: Draft, version: VersionStatus) -> bool:
    """Whether a version under way was approved, and the judgement that counts by now waits for an approval."""
    return version.approval is not None and draft.awaiting is not None


def approval_on(endpoint: ModelEndpoint) -> Approval | None:
    """Returns what the annotations of an endpoint approve; None where they are not whole."""
    notes = endpoint.metadata.annotations
    user, digest = notes.get(APPROVED_BY_ANNOTATION), notes.get(APPROVED_DIGEST_ANNOTATION)
    evaluation = notes.get(APPROVED_EVALUATION_ANNOTATION, "")
    if not user or not digest or not (evaluation.isascii() and evaluation.isdecimal() and len(evaluation) < 10):
        return None
    return Approval(fit(user, _USER_LIMIT), digest, int(evaluation), notes.get(APPROVED_RUN_ANNOTATION) or None)


def show(draft: Draft) -> None:
    """Sets the condition, or takes it back."""
    for type_ in PROMOTION_CONDITIONS:
        if draft.held_back is None or draft.held_back[0] != type_:
            draft.conditions = conditions.drop(draft.conditions, type_)
    if draft.held_back is None:
        return
    type_, reason, message = draft.held_back
    before = conditions.find(draft.was.conditions, type_)
    draft.condition(type_, "True", reason, message)
    if before is None or before.reason != reason:
        draft.event("Warning", reason, fit(message))


def _has_required_gates(draft: Draft, promotion: Promotion, wanted: ServedModel) -> bool:
    required = promotion.required_gates
    if not required:
        return True
    judged = draft.observed.judged.get(wanted.digest, Judged())
    beside = served_beside(wanted.digest, draft.live, draft.history)
    held = held_against(required, wanted.digest, draft.live, _by_right(draft, draft.history))
    lacking = shortfalls(held, judged.gates, beside=beside)
    if judged.gates and not lacking:
        return True
    advice = (
        "have a run judge it by such gates (`stages: []` judges a model as it is), or have somebody with the verb "
        "approve change spec.promotion"
    )
    if judged.gates:
        reason = "GateMissing" if any(one.missing for one in lacking) else "GateWeaker"
        why = "; ".join(map(str, lacking))
        said = f"{wanted.digest} was not judged by what spec.promotion.requiredGates asks: {why}. To serve it, {advice}"
    elif judged.remote_code:
        reason = "RemoteCode"
        said = (
            f"the own code of {wanted.digest} ran where it was judged (model.trustRemoteCode of run {judged.run}), and "
            f"may have written its figures, so they answer none of spec.promotion.requiredGates. To serve it, {advice}"
            "; judge it without model.trustRemoteCode"
        )
    else:
        reason = "GatesUnknown"
        said = (
            f"nothing says by which gates {wanted.digest} was judged, and spec.promotion.requiredGates asks for "
            f"{len(required)}; model.acceptUnjudged does not help here. To serve it, {advice}"
        )
    draft.held_back = (LACKS_REQUIRED_GATE, reason, said)
    return False


def _is_approved(draft: Draft, promotion: Promotion, wanted: ServedModel) -> bool:
    if promotion.mode != "Approval" or approval_of(draft, wanted.digest) is not None:
        return True
    if not draft.observed.approvals_guarded:
        said = (
            "spec.promotion.mode is Approval, and nothing keeps anybody from writing an approval here, so none counts "
            "and no new version starts: turn on admissionPolicies.enabled of Slipway's chart, or set mode: Automatic"
        )
        draft.held_back = (APPROVAL_REFUSED, "NotGuarded", said)
        return False
    draft.awaiting = _waits(draft, wanted.digest)
    name = draft.endpoint.metadata.name
    said = (
        f"{wanted.digest} waits for an approval: `slipway approve endpoint/{name} --digest {wanted.digest}`, by "
        "somebody with the verb approve on modelendpoints"
    )
    if draft.awaiting.remote_code:
        said += f"; {OWN_CODE}"
    draft.held_back = (AWAITING_APPROVAL, "NotApproved", said)
    return False


def _waits(draft: Draft, digest: str) -> AwaitingStatus:
    """Returns what an approval of a model has to name."""
    judged = draft.observed.judged.get(digest, Judged())
    return AwaitingStatus(
        digest=digest,
        run=judged.run,
        run_uid=judged.run_uid,
        evaluation=judged.evaluation or 0,
        remote_code=judged.remote_code,
    )


def _recorded(draft: Draft, digest: str) -> ApprovalStatus | None:
    """Returns an approval that the status remembers: whoever approved a model that has had traffic need not do so for
    its next version. That of a candidate is of the judgement that it names alone: another one may have come of which
    nobody knows what it was in between, and of a version that was dropped the annotations say whether it counts."""
    had_traffic = [*filter(None, [draft.live]), *(one for one in draft.history if one.state in HAD_TRAFFIC)]
    waits = _waits(draft, digest)
    under_way = [one for one in filter(None, [draft.candidate]) if _is_of(one.approval, waits)]
    known = _by_right(draft, [*had_traffic, *under_way])
    return next((one.approval for one in known if one.digest == digest and one.approval is not None), None)


def _is_of(approval: ApprovalStatus | None, waits: AwaitingStatus) -> bool:
    """Whether an approval is of the judgement that counts by now. Earlier releases recorded no run."""
    if approval is None:
        return False
    return approval.evaluation == waits.evaluation and approval.run_uid in (None, waits.run_uid)


def _by_right(draft: Draft, versions: Iterable[VersionStatus]) -> list[VersionStatus]:
    """Returns the versions but for those whose verdict a revoked key signed: what let them in, and what was approved,
    may be forged."""
    return [one for one in versions if one.signed_by not in draft.observed.revoked]
