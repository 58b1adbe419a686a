"""A model that passed on its way to its endpoint, and how it fares there."""

from __future__ import annotations

from slipway_core.lifecycle import required_gates
from slipway_core.lifecycle.annotations import RETRY_ANNOTATION
from slipway_core.lifecycle.decision import Promote
from slipway_core.lifecycle.draft import Draft
from slipway_core.lifecycle.endpoint_claim import Claim, is_later
from slipway_core.lifecycle.observed import EndpointView
from slipway_core.resources import conditions
from slipway_core.resources.promotion import (
    APPROVAL_REFUSED,
    AWAITING_APPROVAL,
    LACKS_REQUIRED_GATE,
    held_by_verdict,
)
from slipway_core.resources.status import (
    AwaitingStatus,
    EndpointPhase,
    Phase,
    RunEndpointStatus,
    Verdict,
    VersionStatus,
)

ENDPOINT_UNREADABLE = "EndpointUnreadable"
"""Reason of a condition while the endpoint is there and cannot be read."""


def promote(draft: Draft) -> Phase:
    """Takes a model that passed to its endpoint, and says how it fares there."""
    serving, artifact = draft.plan.serving, draft.artifact
    if serving is None or artifact is None:
        passed = draft.evaluation is not None and draft.evaluation.verdict is Verdict.PASS
        judged = "the model passed" if passed else "no gate applied to the model"
        draft.condition("Progressing", "False", "Completed", f"{judged}; the run has no serving")
        return Phase.COMPLETED
    view = draft.observed.endpoint
    if stays_out(draft) and not is_promoted(draft):
        return Phase.REJECTED
    if view is not None and view.unreadable:
        return _unreadable(draft, serving.endpoint, view.unreadable)
    draft.endpoint = _on_endpoint(draft, serving.endpoint, view)
    if view is None or not is_promoted(draft):
        if view is not None and view.claim is not None and is_later(view.claim, draft.run, draft.plan.run.uid):
            return _superseded(draft, view.claim)
        if is_over(draft, serving.endpoint, view):
            return _let_go(draft, serving.endpoint, view)
        why = required_gates.refusal(draft.plan, view, serving.endpoint, draft.evaluation, artifact.digest)
        if why is not None:
            return _not_let_in(draft, why)
        draft.promote = Promote(serving.endpoint, artifact.uri, artifact.digest, draft.run.name, draft.retry)
        draft.condition("Live", "False", "RollingOut", f"endpoint {serving.endpoint} was told to serve the model")
        draft.condition("Progressing", "True", "RollingOut", f"endpoint {serving.endpoint} rolls the model out")
        return Phase.ROLLING_OUT
    return _rollout_phase(draft, view, artifact.digest, serving.endpoint)


def _not_let_in(draft: Draft, why: str) -> Phase:
    draft.condition("Live", "False", required_gates.NOT_LET_IN, why)
    draft.condition("Progressing", "False", "Rejected", f"the model passed its own gates, and {why}")
    return Phase.REJECTED


def stays_out(draft: Draft) -> bool:
    """Whether an endpoint did not take the model. One that asks for less by now is not told of it by itself: who knows
    what that was meant for? A retry asks again."""
    said = conditions.find(draft.was.conditions, "Live")
    rejected = draft.was.phase is Phase.REJECTED and draft.was.retry == draft.retry
    return rejected and said is not None and said.reason == required_gates.NOT_LET_IN


def _unreadable(draft: Draft, name: str, why: str) -> Phase:
    """Nobody knows what the endpoint serves or was told, so nothing is decided until somebody can read it."""
    draft.condition("Live", "Unknown", ENDPOINT_UNREADABLE, f"endpoint {name} cannot be read: {why}")
    settled = draft.was.phase in (Phase.SERVING, Phase.COMPLETED, Phase.FAILED)
    if settled and draft.was.retry == draft.retry:
        return draft.was.phase
    draft.condition("Progressing", "True", ENDPOINT_UNREADABLE, f"endpoint {name} cannot be told to serve: {why}")
    return Phase.ROLLING_OUT


def _on_endpoint(draft: Draft, name: str, view: EndpointView | None, version: int | None = None) -> RunEndpointStatus:
    retry = draft.retry if is_promoted(draft) else _taken_up(draft, name)
    was = draft.was.endpoint
    unknown = was.unknown if was is not None and was.name == name else {}
    url = view.status.url if view else None
    return RunEndpointStatus(name=name, url=url, version=version, retry=retry, **unknown)


def _rollout_phase(draft: Draft, view: EndpointView, digest: str, name: str) -> Phase:
    live, candidate = view.status.live, view.status.candidate
    serves = draft.was.phase is Phase.SERVING
    if live is not None and live.digest == digest and _traffic_moves(view) and not serves:
        # It takes a moment, and other words would take a write; of a long one the endpoint says why.
        said = conditions.find(draft.was.conditions, "Live") if draft.was.phase is Phase.ROLLING_OUT else None
        return _rolls_out(draft, said.message if said else f"the traffic moves to version {live.version}")
    if live is not None and live.digest == digest:
        draft.endpoint = _on_endpoint(draft, name, view, live.version)
        if not _answers(view):
            if view.current and view.status.phase is EndpointPhase.STOPPED:
                # It answered a prompt when it became the live version; nothing is left for the run to wait for.
                message = f"endpoint {name} has the model as version {live.version} and is stopped"
                draft.condition(
                    "Live", "False", conditions.STOPPED, f"{message}; `slipway resume endpoint/{name}` starts it"
                )
                draft.condition("Progressing", "False", "Serving", message)
                return Phase.SERVING
            has = f"endpoint {name} has the model as version {live.version}, which does not answer"
            if serves and view.current and (candidate is None or candidate.digest != digest):
                # The endpoint says why. The run itself is over and begins no rollout.
                draft.condition("Live", "False", conditions.NOT_ANSWERING, f"{has} now")
                return Phase.SERVING
            message = f"{has} yet; `slipway status endpoint/{name}` says why"
            draft.condition("Live", "False", conditions.NOT_ANSWERING, message)
            draft.condition("Progressing", "True", "RollingOut", message)
            return Phase.ROLLING_OUT
        if not view.current or (candidate is not None and candidate.digest == digest):
            message = f"endpoint {name} serves the model and takes up its new settings"
            draft.condition("Live", "True", "Serving", message)
            draft.condition("Progressing", "True", "RollingOut", message)
            return Phase.ROLLING_OUT
        draft.condition("Live", "True", "Serving", f"endpoint {name} serves the model as version {live.version}")
        draft.condition("Progressing", "False", "Serving", "the model is live")
        return Phase.SERVING
    if (held := _held_by_promotion(draft, view, digest, name)) is not None:
        return held
    own = [v for v in [candidate, *view.status.history] if v is not None and v.digest == digest]
    ours = next((v for v in own if v.state != "Dropped"), None)
    settled = view.current and (ours is None or ours is not candidate)
    failed = ours is not None and ours.state == "Failed" and draft.was.phase is Phase.FAILED
    if settled and view.rollback_to is not None and not failed:
        return _rolled_back(draft, name, view.rollback_to, ours)
    if settled and ours is not None:
        if ours.state == "Failed":
            kept = f"; version {live.version} stays live" if live else ""
            message = f"the model passed and could not be served: {ours.message}{kept}"
            draft.condition("Live", "False", "RolloutFailed", f"version {ours.version}: {ours.message}")
            draft.condition("Progressing", "False", "RolloutFailed", message)
            return Phase.FAILED
        what = f"is not any more: {ours.message}" if ours.message else "was replaced"
        draft.condition("Live", "False", "Replaced", f"version {ours.version} was live and {what}")
        draft.condition("Progressing", "False", "Completed", f"the model was live on {name} and {what}")
        return Phase.COMPLETED
    said = _how_far(own[0] if own else None, view) or _held_back(view) or "the endpoint starts the new version"
    return _rolls_out(draft, said)


def _held_by_promotion(draft: Draft, view: EndpointView, digest: str, name: str) -> Phase | None:
    """Returns the phase of a run whose model the endpoint was told and does not start, since it asks for more."""
    model = view.claim.digest if view.claim is not None else None
    if not view.current or view.rollback_to is not None or model != digest:
        return None
    lacking = conditions.find(view.status.conditions, LACKS_REQUIRED_GATE)
    if lacking is not None:
        return _not_let_in(draft, f"endpoint {name} requires more since it was told of it: {lacking.message}")
    refused = conditions.find(view.status.conditions, APPROVAL_REFUSED)
    awaiting = view.status.awaiting_approval
    if refused is not None:
        reason, said = APPROVAL_REFUSED, refused.message
    elif awaiting is not None and awaiting.digest == digest:
        reason, said = AWAITING_APPROVAL, _how_to_approve(draft, awaiting, name)
    else:
        return None
    message = f"the model passed, and endpoint {name} takes it once it is approved: {said}"
    draft.condition("Live", "False", reason, message)
    draft.condition("Progressing", "True", reason, message)
    return Phase.AWAITING_APPROVAL


def _how_to_approve(draft: Draft, awaiting: AwaitingStatus, name: str) -> str:
    own = awaiting.run_uid in (None, draft.plan.run.uid)
    what = draft.run.name if own else f"endpoint/{name}"
    later = "" if own else f"; what waits is the judgement of run {awaiting.run}, which has judged it since"
    command = f"`slipway approve {what} --digest {awaiting.digest}`"
    return f"{command}, by somebody with the verb approve on modelendpoints{later}"


def _held_back(view: EndpointView) -> str | None:
    """Why no version of the model starts, where the endpoint says so."""
    if not view.current:
        return None
    if (why := held_by_verdict(view.status.conditions)) is not None:
        return why
    unknown = conditions.find(view.status.conditions, "ParityUnknown")
    return unknown.message if unknown is not None and unknown.reason == "NoRecord" else None


def _rolls_out(draft: Draft, message: str) -> Phase:
    draft.condition("Live", "False", "RollingOut", message)
    draft.condition("Progressing", "True", "RollingOut", message)
    return Phase.ROLLING_OUT


def _how_far(newest: VersionStatus | None, view: EndpointView) -> str | None:
    """What is to be said of a model that is not live yet, by the newest version of it."""
    if newest is not None and newest is view.status.candidate:
        return newest.message
    if newest is not None and newest.state == "Dropped" and view.current:
        return f"version {newest.version} was dropped before it was live: {newest.message}"
    return None


def _rolled_back(draft: Draft, name: str, to: int, ours: VersionStatus | None) -> Phase:
    """Somebody wants another version back, and a run does not undo that: it has nothing more to do."""
    why = f"endpoint {name} is rolled back to version {to} by spec.rollbackTo; clear it to let this model go live"
    if ours is not None and ours.state in ("Standby", "Retired"):
        why = f"version {ours.version} was live; {why} again"
    draft.condition("Live", "False", "RolledBack", why)
    draft.condition("Progressing", "False", "Completed", why)
    return Phase.COMPLETED


def _answers(view: EndpointView) -> bool:
    """Whether the live version gets the requests and answers them. Of one beside a candidate the phase does not say."""
    ready = conditions.find(view.status.conditions, "Ready")
    if view.status.candidate is not None and ready is not None and ready.status == "False":
        return False
    return view.status.phase in (EndpointPhase.SERVING, EndpointPhase.ROLLING_OUT) and not _traffic_moves(view)


def _traffic_moves(view: EndpointView) -> bool:
    """Whether a version was made live a moment ago, and the requests do not go to it yet."""
    return view.status.phase is EndpointPhase.ROLLING_OUT and view.status.candidate is None


def is_promoted(draft: Draft) -> bool:
    """Whether the endpoint was told to serve this run's artifact, in its newest try."""
    view, artifact, serving = draft.observed.endpoint, draft.artifact, draft.plan.serving
    if view is None or view.claim is None or artifact is None or serving is None:
        return False
    # Once the endpoint took up the run's retry, one that somebody asks of the endpoint itself is none of the run's.
    tried = draft.retry in (None, view.status.retry, _taken_up(draft, serving.endpoint))
    return view.claim.run == draft.run.name and view.claim.digest == artifact.digest and tried


def _taken_up(draft: Draft, endpoint: str) -> str | None:
    """The run's newest retry that this endpoint is known to have taken up."""
    before = draft.was.endpoint
    return before.retry if before is not None and before.name == endpoint else None


def is_over(draft: Draft, endpoint: str, view: EndpointView | None) -> bool:
    """Whether the run had its time with this endpoint: what people did to the endpoint since then stays done.

    A run that serves tells an endpoint again that has no model, or that of an older run, told in the same moment.
    """
    was = draft.was
    if was.endpoint is None or was.endpoint.name != endpoint or was.retry != draft.retry:
        return False
    # Who edits the model by hand leaves the run's annotations; an endpoint that was made by hand has none.
    by_hand = view is None or (view.claim is not None and view.claim.uid in ("", draft.plan.run.uid))
    return was.phase in (Phase.COMPLETED, Phase.FAILED) or (was.phase is Phase.SERVING and by_hand)


def _let_go(draft: Draft, endpoint: str, view: EndpointView | None) -> Phase:
    draft.endpoint = draft.was.endpoint
    if draft.was.phase is not Phase.SERVING:
        return draft.was.phase
    again = f"set the annotation {RETRY_ANNOTATION} to a new value to have it serve this model again"
    if view is None:
        draft.condition("Live", "False", "EndpointDeleted", f"endpoint {endpoint} was deleted; {again}")
    else:
        draft.condition("Live", "False", "Replaced", f"endpoint {endpoint} was told to serve another model; {again}")
    draft.condition("Progressing", "False", "Completed", f"the model was live on {endpoint} and is not any more")
    return Phase.COMPLETED


def _superseded(draft: Draft, claim: Claim) -> Phase:
    draft.condition("Live", "False", "Superseded", f"run {claim.run} was created later and has the endpoint")
    draft.condition("Progressing", "False", "Completed", f"the model passed; run {claim.run} has the endpoint")
    return Phase.COMPLETED
