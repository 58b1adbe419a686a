"""The parts of one server. The launcher makes them and leaves them on vLLM's arguments as `slipway`."""

from __future__ import annotations

from dataclasses import dataclass, field

from slipway_core.protocol.artifact import Manifest
from slipway_serving.http.admission import Admission
from slipway_serving.http.api_keys import ApiKeys
from slipway_serving.http.linger import Linger
from slipway_serving.http.metrics import ServerMetrics
from slipway_serving.settings import Settings


@dataclass(frozen=True)
class Server:
    settings: Settings
    manifest: Manifest
    keys: ApiKeys | None
    """None: no key is asked for."""
    admission: Admission
    metrics: ServerMetrics
    linger: Linger = field(default_factory=Linger)
