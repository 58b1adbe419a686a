"""The live version, and the one before it that stands by until it has stood its probation (invariant B)."""

from __future__ import annotations

from datetime import timedelta

from slipway_core.resources.api import seconds
from slipway_core.resources.conditions import not_ahead, parse_timestamp, timestamp
from slipway_core.resources.status import VersionStatus
from slipway_core.rollout.draft import KEY_REVOKED, Draft


def judge_live(draft: Draft) -> None:
    """Keeps the live version running; a new one that fails in its probation gives way to the one before."""
    _withdraw_revoked(draft)
    live, standby = draft.live, draft.standby
    if live is None:
        return
    view = draft.observed.versions.get(live.version)
    sick = view is not None and view.state in ("Failed", "Unready") and not draft.makes_room
    if sick and standby is not None and (draft.is_ready(standby) or draft.one_at_a_time):
        return _roll_back(draft, live, standby, (view.message if view else None) or "it stopped answering")
    draft.live = live = live.model_copy(update={"since": not_ahead(live.since, draft.now)})
    draft.start.append(live)
    draft.route = live.version


def _withdraw_revoked(draft: Draft) -> None:
    """Takes the traffic from versions whose verdict is signed by a revoked key. A standby that another key's verdict
    let through takes their place once it is ready."""
    standby = draft.standby
    if standby is not None and _trusted(draft, standby) is None:
        draft.replace(standby.model_copy(update={"state": "Retired", "since": timestamp(draft.now)}))
        standby = None
    live = draft.live
    if live is not None:
        draft.live = _trusted(draft, live)
        if draft.live is None:
            why = f"its verdict is signed by the key {live.signed_by!r}, which is revoked"
            draft.event("Warning", KEY_REVOKED, f"version {live.version} gets no traffic any more: {why}")
            draft.retire(live, "Retired", why)
            draft.stop.append(live.version)
    if draft.live is None and standby is not None and draft.is_ready(standby):
        draft.history = [version for version in draft.history if version.version != standby.version]
        draft.live = standby.model_copy(update={"state": "Live", "since": timestamp(draft.now), "message": None})


def _trusted(draft: Draft, version: VersionStatus) -> VersionStatus | None:
    """Returns a version that may have the traffic, with the key by which it may; None where that is revoked."""
    if version.signed_by not in draft.observed.revoked:
        return version
    proof = draft.observed.proofs.get(version.digest)
    if proof is None or not proof.passes:
        return None
    return version.model_copy(update={"signed_by": proof.signed_by})


def _roll_back(draft: Draft, live: VersionStatus, standby: VersionStatus, reason: str) -> None:
    draft.event(
        "Warning",
        "RolledBack",
        f"version {live.version} failed in its probation: {reason}; version {standby.version} is back",
    )
    draft.retire(live, "Failed", f"failed in its probation: {reason}")
    draft.stop.append(live.version)
    draft.history = [v for v in draft.history if v.version != standby.version]
    draft.live = standby.model_copy(update={"state": "Live", "since": timestamp(draft.now), "message": None})
    draft.start.append(draft.live)
    draft.route = draft.live.version


def retire_standby(draft: Draft) -> None:
    """Ends the version before the live one once that one has stood its probation, or was stopped in it."""
    live, standby = draft.live, draft.standby
    if standby is not None:
        ready = live is not None and draft.is_ready(live)
        stood = live is not None and not _in_probation(draft, live) and ready
        # Who stops an endpoint wants its pods and GPUs back. And one that is resumed does not answer at first, which is
        # no failed probation: a standby that does would take its place.
        stopped = draft.endpoint.spec.replicas == 0 and not ready
        if stood or stopped:
            draft.replace(standby.model_copy(update={"state": "Retired", "since": timestamp(draft.now)}))
        elif not draft.one_at_a_time:
            draft.start.append(standby)
    needed = {v.version for v in draft.start}
    for version in draft.observed.versions:
        if version not in needed and version not in draft.stop:
            draft.stop.append(version)


def _in_probation(draft: Draft, live: VersionStatus) -> bool:
    probation = timedelta(seconds=seconds(draft.endpoint.spec.rollout.probation))
    left = parse_timestamp(live.since) + probation - draft.now
    if left > timedelta(0):
        draft.look(left)
    return left > timedelta(0)
