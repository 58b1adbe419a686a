"""How the kubelet asks a server how it is."""

from __future__ import annotations

import math

from slipway_operator.kube.manifest import Manifest

_READY_SECONDS = 2
"""Between two questions: what a rollout waits for at the most after the server is ready."""
_LIVE_SECONDS, _LIVE_FAILURES = 20, 6


def probes(start_timeout: float) -> Manifest:
    """Returns the three probes of a server's container.

    Liveness waits two minutes: a machine that is busy, with an engine that is not hung, must not lose its live model.

    Args:
        start_timeout: seconds in which a server has to become ready.
    """
    starts = max(1, math.ceil(start_timeout / _READY_SECONDS))
    return {
        "startupProbe": _ask("/readyz", period=_READY_SECONDS, failures=starts, timeout=2),
        "readinessProbe": _ask("/readyz", period=_READY_SECONDS, failures=2, timeout=2),
        "livenessProbe": _ask("/livez", period=_LIVE_SECONDS, failures=_LIVE_FAILURES, timeout=10),
    }


def _ask(path: str, *, period: int, failures: int, timeout: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
