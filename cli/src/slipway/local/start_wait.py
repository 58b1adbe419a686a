"""How an endpoint of this machine looks to whoever waits for a model that passed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from slipway.local.state import EndpointFolder
from slipway.start_wait import Sight, StartWait, on_its_way
from slipway_core.resources.api import seconds
from slipway_core.resources.model_endpoint import ModelEndpointSpec

NOTHING_STARTS = timedelta(minutes=1)
"""How long an endpoint may start no version of the model: it looks four times a second, and would have by then."""


def start_wait(endpoint: EndpointFolder, clock: Callable[[], datetime], within: timedelta | None = None) -> StartWait:
    return StartWait(endpoint.name, partial(_sight, endpoint), clock, within, NOTHING_STARTS)


def _sight(endpoint: EndpointFolder, model: str | None) -> Sight:
    there = endpoint.status()
    awaited = on_its_way(there, model)
    # A candidate whose server ends has failed at once, and so has its run.
    ends = endpoint.server_ends(awaited.version) if awaited is not None and awaited is not there.candidate else []
    spec = endpoint.load().spec if endpoint.exists() else ModelEndpointSpec()
    return Sight(there, timedelta(seconds=seconds(spec.rollout.start_timeout)), ends)
