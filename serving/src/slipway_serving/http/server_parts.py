"""The parts of one server. The launcher makes them and leaves them on vLLM's arguments as `slipway`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.control_tokens import ControlTokens
from slipway_serving.http.admission import Admission
from slipway_serving.http.api_keys import ApiKeys
from slipway_serving.http.bodies import Bodies
from slipway_serving.http.linger import Linger
from slipway_serving.http.metrics import ServerMetrics
from slipway_serving.settings import Settings

RequestProblem = Callable[[str, bytes], tuple[str | None, str] | None]
"""Given a route's label and a body: the field that the application could not take, None where that cannot be
told, and why; None when it can."""


def _no_problem(route: str, body: bytes) -> None:
    """For a server whose application takes everything, or says why not."""


@dataclass(frozen=True)
class Server:
    settings: Settings
    manifest: Manifest
    keys: ApiKeys | None
    """None: no key is asked for."""
    admission: Admission
    metrics: ServerMetrics
    context: int
    """Tokens of prompt and answer together: the model's, or fewer where the settings say so."""
    linger: Linger = field(default_factory=Linger)
    bodies: Bodies = field(default_factory=Bodies)
    request_problem: RequestProblem = _no_problem
    reads_calls: bool = True
    """Whether the calls of tools that the model writes are told from text."""
    refused_tokens: ControlTokens | None = None
    """Control tokens that no message may hold, where the engine cannot make them text; None where it can."""
