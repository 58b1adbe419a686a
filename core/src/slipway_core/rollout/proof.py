"""What the statements about a model mean for an endpoint: the same for every executor."""

from __future__ import annotations

from datetime import datetime

from slipway_core.protocol.trust import Flaw, Standing
from slipway_core.resources.status import EndpointStatus
from slipway_core.rollout.observed import Proof


def prove(standing: Standing, digest: str, status: EndpointStatus, now: datetime) -> Proof:
    """Returns whether a version of a model may start on an endpoint, and by what.

    A retired key keeps live what is live, and starts nothing new. What the status names from a time in which verdicts
    were not signed goes on, unless a statement says otherwise.
    """
    newest = standing.newest
    if standing.passed and newest is not None:
        if newest.key.retired(now) and not _is_live(status, digest):
            why = (
                f"the verdict is signed by the key {newest.key.id!r}, which was retired at {newest.key.not_after}; "
                "have a run judge the model again"
            )
            return Proof(False, flaw=Flaw.KEY_RETIRED, why=why)
        return Proof(True, signed_by=newest.key.id)
    if standing.flaw is None and _is_unsigned(status, digest):
        return Proof(True)
    return Proof(False, flaw=standing.flaw, why=standing.why)


def _is_live(status: EndpointStatus, digest: str) -> bool:
    running = [status.live, *(version for version in status.history if version.state == "Standby")]
    return any(version is not None and version.digest == digest for version in running)


def _is_unsigned(status: EndpointStatus, digest: str) -> bool:
    known = [status.live, status.candidate, *status.history]
    return any(
        version is not None and version.digest == digest and version.signed_by is None and not version.accept_unjudged
        for version in known
    )
