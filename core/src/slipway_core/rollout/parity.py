"""Whether a version is known to be the model that was judged, and what follows where it is not."""

from __future__ import annotations

from slipway_core.protocol import parity
from slipway_core.resources import conditions
from slipway_core.resources.model_endpoint import ServedModel
from slipway_core.resources.status import ParityStatus, VersionStatus
from slipway_core.rollout.draft import PARITY_FAILED, PARITY_UNKNOWN, Draft
from slipway_core.rollout.observed import VersionView

_ACCEPT = "accept that with model.acceptUnjudged"
_HAD_TRAFFIC = ("Live", "Standby", "Retired")


def record_of(draft: Draft, digest: str) -> ParityStatus | None:
    """Returns the record that a new version of a model is to be held against."""
    known = draft.observed.parity.get(digest)
    if known is not None:
        return known
    return next((one.parity for one in _remembered(draft) if one.digest == digest and one.parity is not None), None)


def may_start(draft: Draft, wanted: ServedModel) -> bool:
    """Whether a version of the model could get traffic: it can be proven, that is accepted, or the status has it."""
    if record_of(draft, wanted.digest) is not None or wanted.accept_unjudged or _is_old(draft, wanted.digest):
        return True
    draft.parity_unknown = (
        "NoRecord",
        f"the evaluation of {wanted.digest} left no record by which a server proves that it serves this model, so no "
        "version of it starts (where a run judged it, `parity` of its report.json says why); let a run of this release "
        f"judge it, or {_ACCEPT}",
    )
    return False


def problem(draft: Draft, candidate: VersionStatus, view: VersionView) -> str | None:
    """Returns why a candidate that answers gets no traffic; None where it is the model that was judged, or may be."""
    if candidate.parity is None or view.parity is True:
        return None
    if view.parity is False:
        return f"{parity.FAILED} {view.message or 'it is not the model that was judged'}"
    if _accepted(draft, candidate.digest) or _had_traffic(draft, candidate.digest):
        return None
    # On a cluster the log goes with the version.
    why = view.parity_unknown or "its log says why"
    return (
        f"{parity.UNKNOWN} its server has not compared itself with the record of the evaluation, "
        f"{candidate.parity.uri}: {why}; mend that and set the annotation slipway.dev/retry, or {_ACCEPT}"
    )


def accepted_since(draft: Draft, wanted: ServedModel, revision: str) -> bool:
    """Whether what failed since nothing was known of it has been accepted by now."""
    newest = next((version for version in draft.history if version.revision == revision), None)
    return wanted.accept_unjudged and newest is not None and parity.UNKNOWN in (newest.message or "")


def show(draft: Draft) -> None:
    """Sets the conditions, or takes them back."""
    failed = _failed(draft)
    if failed is not None:
        draft.condition(PARITY_FAILED, "True", "AnotherModel", failed)
    else:
        draft.conditions = conditions.drop(draft.conditions, PARITY_FAILED)
    unknown = draft.parity_unknown or _unknown(draft)
    if unknown is not None:
        draft.condition(PARITY_UNKNOWN, "True", *unknown)
    else:
        draft.conditions = conditions.drop(draft.conditions, PARITY_UNKNOWN)


def _failed(draft: Draft) -> str | None:
    """Returns the first place in which a version differs that runs, or that was tried last."""
    for version in filter(None, (draft.live, draft.candidate)):
        view = draft.observed.versions.get(version.version)
        if view is not None and parity.FAILED in (view.message or ""):
            return f"version {version.version}: {view.message}"
    return _said_last(draft, parity.FAILED)


def _unknown(draft: Draft) -> tuple[str, str] | None:
    if (said := _said_last(draft, parity.UNKNOWN)) is not None:
        return "NotCompared", said
    live = draft.live
    if live is not None and live.parity is None:
        why = "nothing proves that what it serves is what was judged"
        return "Unproven", f"version {live.version} is live, and {why}"
    return None


def _said_last(draft: Draft, word: str) -> str | None:
    """Returns what the version failed of that was tried last, where it failed of this."""
    newest = draft.history[0] if draft.history and draft.candidate is None else None
    said = (newest.message or "") if newest is not None and newest.state == "Failed" else ""
    return f"version {newest.version}: {said}" if newest is not None and word in said else None


def _is_old(draft: Draft, digest: str) -> bool:
    """Whether the status has a version of the model that has had traffic, or is on its way to it."""
    return _had_traffic(draft, digest) or (draft.candidate is not None and draft.candidate.digest == digest)


def _had_traffic(draft: Draft, digest: str) -> bool:
    return any(one.digest == digest and one.state in _HAD_TRAFFIC for one in _remembered(draft))


def _remembered(draft: Draft) -> list[VersionStatus]:
    return [*filter(None, [draft.live, draft.candidate]), *draft.history]


def _accepted(draft: Draft, digest: str) -> bool:
    model = draft.endpoint.spec.model
    return model is not None and model.digest == digest and model.accept_unjudged
