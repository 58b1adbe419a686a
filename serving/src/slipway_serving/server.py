"""The parts of one server. The launcher makes them and leaves them on vLLM's arguments as `slipway`."""

from __future__ import annotations

from dataclasses import dataclass, field

from slipway_core.protocol.artifact import Manifest
from slipway_serving.admission import Admission
from slipway_serving.api_keys import ApiKeys
from slipway_serving.departure import Departure
from slipway_serving.metrics import ServerMetrics
from slipway_serving.settings import Settings


@dataclass(frozen=True)
class Server:
    settings: Settings
    manifest: Manifest
    keys: ApiKeys | None
    """None: no key is asked for."""
    admission: Admission
    metrics: ServerMetrics
    departure: Departure = field(default_factory=Departure)
