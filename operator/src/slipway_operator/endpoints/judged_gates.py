"""By what a model was judged, by the statements on it that hold. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_core.protocol.trust import Held
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.required_gates import passed_of
from slipway_core.resources.status import EndpointStatus
from slipway_core.rollout.observed import Judged


def judged(endpoint: ModelEndpoint, digest: str, passes: Sequence[Held]) -> Judged:
    """Returns by what a model was judged that passed.

    Args:
        endpoint: that wants to serve it.
        digest: of the model.
        passes: the statements by which it passed, the oldest first. The gates of each count: one that judged it anew by
            stricter gates is enough.
    """
    own = _run_of(endpoint, digest)
    told = [held for held in passes if held.statement.predicate.run.name == own]
    speaker = next(reversed(told or passes), None)
    if speaker is None:
        return Judged()
    said = speaker.statement.predicate
    gates = [gate for held in passes for gate in passed_of(held.statement.predicate.gates)]
    return Judged(said.run.name, said.evaluation, tuple(gates))


def _run_of(endpoint: ModelEndpoint, digest: str) -> str | None:
    """Returns the run that the endpoint has the model of."""
    status, model = endpoint.status or EndpointStatus(), endpoint.spec.model
    named = [model, status.live, status.candidate, *status.history]
    return next((one.run for one in named if one is not None and one.digest == digest and one.run), None)
