"""The version on its way to the traffic: chosen, judged, started, asked, and live or failed."""

from __future__ import annotations

from datetime import timedelta

from slipway_core.resources import conditions
from slipway_core.resources.api import seconds
from slipway_core.resources.conditions import not_ahead, parse_timestamp, timestamp
from slipway_core.resources.model_endpoint import ServedModel
from slipway_core.resources.promotion import ACCEPTED_UNJUDGED, JUDGED
from slipway_core.resources.status import CONDITION_LIMIT, VersionStatus, fit
from slipway_core.rollout import parity, promotion
from slipway_core.rollout.draft import ROLLBACK_WITHOUT_EFFECT, Draft
from slipway_core.rollout.observed import Proof, VersionView
from slipway_core.rollout.revision import revision_of, secret_of

_TAKEN_BACK = "its verdict was taken back"
_ASKS_MORE = "spec.promotion asks for more than it has"
_JUDGED_ANEW = "it was judged anew since it was approved"


def choose_candidate(draft: Draft) -> None:
    """Makes a candidate of the model that the spec asks for, unless it is live, on its way, or has failed already."""
    wanted = _wanted(draft)
    if wanted is None:
        _drop_unwanted(draft)
        return
    revision = revision_of(wanted, draft.endpoint.spec)
    judged = _judged(draft, wanted) and parity.may_start(draft, wanted)
    may_start = judged and promotion.may_start(draft, wanted, revision)
    _tell_of_rollback(draft, revision)
    if draft.live is not None and draft.live.revision == revision:
        if draft.candidate is not None:
            _drop_candidate(draft, "the spec asks for the live version again")
        return
    if draft.candidate is not None:
        same = draft.candidate.revision == revision
        if same and may_start:
            draft.candidate = _with_approval(draft, draft.candidate)
            return
        why = _what_it_lacks(draft, draft.candidate) if judged else _TAKEN_BACK
        _drop_candidate(draft, why if same else "the spec asks for another version")
    if draft.has_failed(revision) and not draft.forgive and not parity.accepted_since(draft, wanted, revision):
        return
    if may_start:
        _create_candidate(draft, wanted, revision)


def _tell_of_rollback(draft: Draft, revision: str) -> None:
    """Says when `rollbackTo` changes nothing: whoever set it waits for what is live already, or never comes."""
    target = draft.endpoint.spec.rollback_to
    reason = message = None
    if target is not None and draft.live is not None and draft.live.version == target:
        reason = "AlreadyLive"
        message = (
            f"spec.rollbackTo is {target}, and version {target} is live: nothing changes, and no other model takes its "
            "place until the field is cleared"
        )
    elif target is not None and draft.has_failed(revision) and not draft.forgive and not _is_live(draft, revision):
        reason = "VersionFailed"
        message = (
            f"spec.rollbackTo is {target}, and what that version serves failed when it was tried last, so it is not "
            f"started; name another version, or have it tried again with the annotation slipway.dev/retry"
        )
    if reason is None or message is None:
        draft.conditions = conditions.drop(draft.conditions, ROLLBACK_WITHOUT_EFFECT)
        return
    before = conditions.find(draft.was.conditions, ROLLBACK_WITHOUT_EFFECT)
    draft.condition(ROLLBACK_WITHOUT_EFFECT, "True", reason, message)
    if before is None or before.reason != reason:
        draft.event("Warning", f"Rollback{reason}", message)


def _is_live(draft: Draft, revision: str) -> bool:
    return draft.live is not None and draft.live.revision == revision


def _judged(draft: Draft, wanted: ServedModel) -> bool:
    """Shows whether the model passed its gates. Returns whether it may go live."""
    proof = draft.observed.proofs.get(wanted.digest)
    draft.show_revoked(wanted.digest, proof)
    if wanted.digest in draft.observed.passed:
        draft.condition(JUDGED, "True", *_words(proof))
        return True
    if wanted.accept_unjudged:
        # Whoever is to approve it must not take a model that failed for one that nobody has judged.
        but = f", and none that there is counts: {proof.why}" if proof is not None and proof.flaw is not None else ""
        said = fit(f"the spec accepts this model without a verdict{but}", CONDITION_LIMIT)
        draft.condition(JUDGED, "False", ACCEPTED_UNJUDGED, said)
        return True
    message = f"{wanted.digest} has no passing verdict, so no version of it starts"
    if proof is not None and proof.flaw is not None:
        said = fit(f"{message}: {proof.why}", CONDITION_LIMIT)
        before = conditions.find(draft.was.conditions, JUDGED)
        # Without a statement it is no news: that of a run may come a moment after the run has told the endpoint.
        if (before is None or before.reason != proof.flaw.value) and not _serves(draft, wanted.digest):
            draft.event("Warning", proof.flaw.value, fit(said))
        draft.condition(JUDGED, "False", proof.flaw.value, said)
        return False
    advice = "let a run judge it, or set model.acceptUnjudged"
    draft.condition(JUDGED, "False", "NoPassingVerdict", f"{message}; {advice}")
    return False


def _serves(draft: Draft, digest: str) -> bool:
    return draft.live is not None and draft.live.digest == digest


def _words(proof: Proof | None) -> tuple[str, str]:
    """Returns reason and message of a model that passed."""
    if proof is None:
        return "Passed", "the model has a passing verdict"
    if proof.signed_by is None:
        return "Unsigned", "the model has a passing verdict of an earlier release, which signed none"
    return "Passed", f"the model has a passing verdict, signed by the key {proof.signed_by}"


def _create_candidate(draft: Draft, wanted: ServedModel, revision: str) -> None:
    # What runs counts too: where a status was lost, its number may be that of another model.
    known = [*(v.version for v in [*draft.history, *filter(None, [draft.live])]), *draft.observed.versions]
    number = 1 + max(known, default=0)
    proof = draft.observed.proofs.get(wanted.digest)
    draft.candidate = VersionStatus(
        version=number,
        uri=wanted.uri,
        digest=wanted.digest,
        revision=revision,
        run=wanted.run,
        credentials=secret_of(wanted),
        accept_unjudged=wanted.accept_unjudged and wanted.digest not in draft.observed.passed,
        signed_by=proof.signed_by if proof is not None else None,
        parity=parity.record_of(draft, wanted.digest),
        approval=promotion.approval_of(draft, wanted.digest),
        since=timestamp(draft.now),
    )
    draft.event("Normal", "CandidateStarting", f"version {number} starts ({wanted.digest})")


def advance_candidate(draft: Draft) -> None:
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
        if (why := parity.problem(draft, candidate, view)) is not None:
            return _fail_candidate(draft, candidate, why)
        # What its server knows nothing of it proves nothing by, at a later start either.
        proven = candidate if view.parity else candidate.model_copy(update={"parity": None})
        return _take_over(draft, proven)
    candidate = candidate.model_copy(update={"since": not_ahead(candidate.since, draft.now)})
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


def _time_to_start(draft: Draft, candidate: VersionStatus, view: VersionView | None) -> timedelta | None:
    """Returns what is left of a candidate's start timeout; None while it waits for something outside.

    A live version that was stopped for it is not kept waiting: it comes back in time.
    """
    if view is not None and view.waits and not (draft.makes_room and draft.live is not None):
        return None
    begun = parse_timestamp(candidate.since)
    if view is not None and view.began is not None:
        begun = max(begun, view.began)
    return begun + timedelta(seconds=seconds(draft.endpoint.spec.rollout.start_timeout)) - draft.now


def _take_over(draft: Draft, candidate: VersionStatus) -> None:
    if draft.live is not None:
        draft.retire(draft.live, "Standby", None)
    draft.live = candidate.model_copy(update={"state": "Live", "since": timestamp(draft.now), "message": None})
    draft.candidate = None
    draft.start.append(draft.live)
    draft.route = candidate.version
    draft.event("Normal", "TookOver", f"version {candidate.version} answered a prompt and is live")


def _fail_candidate(draft: Draft, candidate: VersionStatus, reason: str) -> None:
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


def _make_room(draft: Draft, live: VersionStatus) -> None:
    """Ends the live version before the candidate starts."""
    draft.start = [v for v in draft.start if v.version != live.version]
    if live.version in draft.observed.versions:
        draft.stop.append(live.version)
    draft.route = None


def _drop_unwanted(draft: Draft) -> None:
    """Ends a candidate whose verdict was taken back, or that has less than the endpoint asks for by now, while the spec
    names no version that there is."""
    candidate = draft.candidate
    if candidate is None:
        return
    if candidate.digest not in draft.observed.passed and not candidate.accept_unjudged:
        return _drop_candidate(draft, _TAKEN_BACK)
    if promotion.may_start(draft, _served_by(candidate), candidate.revision):
        draft.candidate = _with_approval(draft, candidate)
        return
    why = _what_it_lacks(draft, candidate)
    # Nobody asks for the model any more: once it is dropped it waits for nothing.
    draft.held_back, draft.awaiting = None, None
    _drop_candidate(draft, why)


def _what_it_lacks(draft: Draft, candidate: VersionStatus) -> str:
    """Returns why a candidate is dropped that passed and has less than the endpoint asks for."""
    return _JUDGED_ANEW if promotion.is_outdated(draft, candidate) else _ASKS_MORE


def _with_approval(draft: Draft, candidate: VersionStatus) -> VersionStatus:
    """Returns a candidate with the approval by which it goes on: that of its next judgement may have come meanwhile."""
    approval = promotion.approval_of(draft, candidate.digest)
    return candidate if approval is None else candidate.model_copy(update={"approval": approval})


def _drop_candidate(draft: Draft, reason: str) -> None:
    assert draft.candidate is not None
    draft.retire(draft.candidate, "Dropped", reason)
    draft.stop.append(draft.candidate.version)
    draft.candidate = None


def _wanted(draft: Draft) -> ServedModel | None:
    spec = draft.endpoint.spec
    known = [*filter(None, [draft.live]), *draft.history]
    target = next((v for v in known if v.version == spec.rollback_to), None)
    if spec.rollback_to is not None and target is None:
        draft.condition(
            "RollbackUnknown", "True", "NoSuchVersion",
            f"spec.rollbackTo is {spec.rollback_to} and history has {sorted(v.version for v in known)}",
        )  # fmt: skip
        draft.conditions = conditions.drop(draft.conditions, ROLLBACK_WITHOUT_EFFECT)
        return None
    draft.conditions = conditions.drop(draft.conditions, "RollbackUnknown")
    return spec.model if target is None else _served_by(target)


def _served_by(version: VersionStatus) -> ServedModel:
    return ServedModel(
        uri=version.uri,
        digest=version.digest,
        run=version.run,
        credentials=version.credentials,
        accept_unjudged=version.accept_unjudged,
    )
