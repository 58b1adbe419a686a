"""How the model of a run fares at its endpoint now. Nobody writes the status of a run that is over, and its server goes
on without it: on a cluster the operator says the same, by `lifecycle.promotion`."""

from __future__ import annotations

from slipway.local.state import EndpointFolder, State, StateError
from slipway_core.resources import conditions
from slipway_core.resources.status import Condition, EndpointPhase, EndpointStatus, Phase, RunStatus
from slipway_core.resources.training_run import TrainingRun


def as_served_now(state: State, run: TrainingRun) -> TrainingRun:
    """Returns the run with its condition Live as its endpoint is now; as it is where the endpoint cannot be read, or
    has another model."""
    status = run.status
    live = conditions.find(status.conditions, "Live") if status is not None else None
    if status is None or live is None or status.phase not in (Phase.SERVING, Phase.ROLLING_OUT):
        return run
    if live.status != "True" and live.reason != conditions.NOT_ANSWERING:
        return run
    there = _has_the_model(state, status)
    now = _now(status, live, there) if there is not None else None
    if now is None:
        return run
    rows = [now if one is live else one for one in status.conditions]
    return run.model_copy(update={"status": status.model_copy(update={"conditions": rows})})


def endpoint_reason(state: State, run: TrainingRun) -> str | None:
    """Returns why the model of a run does not answer, as its endpoint tells it; None where it tells nothing."""
    there = _has_the_model(state, run.status) if run.status is not None else None
    if there is None or run.status is None or run.status.endpoint is None or there.live is None:
        return None
    ready = conditions.find(there.conditions, "Ready")
    if there.phase is not EndpointPhase.STOPPED:
        return ready.message if ready is not None and ready.status == "False" else None
    ends = state.endpoint(run.status.endpoint.name).server_ends(there.live.version)
    last = f"; the server of version {there.live.version} ended last of this: {ends[-1].why}" if ends else ""
    return f"endpoint {run.status.endpoint.name} is stopped{last}"


def _has_the_model(state: State, status: RunStatus) -> EndpointStatus | None:
    """Returns the status of the run's endpoint, where the live version is the run's model."""
    if status.endpoint is None or status.artifact is None:
        return None
    folder: EndpointFolder = state.endpoint(status.endpoint.name)
    try:
        there = folder.status() if folder.exists() else None
    except StateError:
        return None
    own = there is not None and there.live is not None and there.live.digest == status.artifact.digest
    return there if own else None


def _now(status: RunStatus, live: Condition, there: EndpointStatus) -> Condition | None:
    """Returns what the condition is by now, None where it is what it was."""
    assert status.endpoint is not None
    assert there.live is not None
    name, version = status.endpoint.name, there.live.version
    has = f"endpoint {name} has the model as version {version}"
    if there.phase is EndpointPhase.STOPPED and status.phase is Phase.SERVING:
        said = ("False", conditions.STOPPED, f"{has} and is stopped; `slipway run` with the run's file starts it")
    elif _is_silent(there) and live.status == "True":
        said = ("False", conditions.NOT_ANSWERING, f"{has}, which does not answer now")
    elif _answers(there) and live.status == "False":
        said = ("True", "Serving", f"endpoint {name} serves the model as version {version}")
    else:
        return None
    ready = conditions.find(there.conditions, "Ready")
    since = ready.last_transition_time if ready is not None else live.last_transition_time
    fresh = {"status": said[0], "reason": said[1], "message": said[2], "last_transition_time": since}
    return live.model_copy(update=fresh)


def _is_silent(there: EndpointStatus) -> bool:
    """Whether the live version does not answer. Of one beside a candidate the phase does not say."""
    return there.phase is EndpointPhase.DEGRADED or (there.candidate is not None and _ready(there) == "False")


def _answers(there: EndpointStatus) -> bool:
    return there.phase is EndpointPhase.SERVING or (there.candidate is not None and _ready(there) == "True")


def _ready(there: EndpointStatus) -> str | None:
    ready = conditions.find(there.conditions, "Ready")
    return ready.status if ready is not None else None
