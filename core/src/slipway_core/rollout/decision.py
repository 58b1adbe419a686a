"""What an endpoint needs now, as `step` decides it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from slipway_core.resources.events import Event
from slipway_core.resources.status import EndpointStatus, VersionStatus


@dataclass(frozen=True)
class EndpointDecision:
    status: EndpointStatus
    start: tuple[VersionStatus, ...] = ()
    """Versions that have to run; one that runs already is left alone."""
    probe: int | None = None
    """Version that has to be asked a real prompt."""
    route: int | None = None
    """Version that gets the traffic from now on; None leaves it where it is."""
    stop: tuple[int, ...] = ()
    """Versions to drain and end."""
    events: tuple[Event, ...] = ()
    look_again: timedelta | None = None
