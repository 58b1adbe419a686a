"""Slipway's own metrics. vLLM's stand beside them under `vllm:`, and it may drop and make those again."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from slipway_serving.http.admission import Admission
from slipway_serving.http.connections import Connections

# From a cached answer of a tiny model to a long one on a busy CPU, in seconds.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)


class ServerMetrics:
    """Counters and gauges of the HTTP side. Names begin with `slipway_`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.requests = Counter(
            "slipway_requests",
            "Answers by route and status code; 499: the client left.",
            ["route", "code"],
            registry=registry,
        )
        self.rejected = Counter(
            "slipway_requests_rejected", "Requests refused before the engine was asked.", ["reason"], registry=registry
        )
        self.connections_ended = Counter(
            "slipway_connections_ended",
            "Connections that the server ended early, by reason: what their clients let it wait for, or sent.",
            ["reason"],
            registry=registry,
        )
        self.first_token = Histogram(
            "slipway_time_to_first_token_seconds",
            "From a request's arrival, its wait included, to the first piece of a streamed answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.duration = Histogram(
            "slipway_request_seconds",
            "From a request's arrival to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.generated_tokens = Counter(
            "slipway_generation_tokens", "Tokens that the engine generated.", registry=registry
        )
        self._build = Gauge(
            "slipway_model_info",
            "Always 1: the model served, the digest of its artifact, the run that made it, Slipway's version.",
            ["model", "digest", "run", "version"],
            registry=registry,
        )

    def set_model(self, *, model: str, digest: str, run: str, version: str) -> None:
        self._build.labels(model=model, digest=digest, run=run, version=version).set(1)

    def watch_connections(self, connections: Connections) -> None:
        """Adds the gauge of open connections."""
        help_text = "Connections of clients that are open now."
        Gauge("slipway_connections", help_text, registry=self._registry).set_function(lambda: len(connections))

    def connection_ended(self, reason: str) -> None:
        self.connections_ended.labels(reason).inc()

    def watch(self, admission: Admission) -> None:
        """Adds the gauges that read who runs and who waits."""
        gauges = (
            ("slipway_requests_running", "Generations that run now.", lambda: admission.running),
            ("slipway_requests_waiting", "Requests that wait for a place.", lambda: admission.waiting),
            ("slipway_draining", "1 from SIGTERM on.", lambda: admission.draining),
        )
        for name, help_text, read in gauges:
            Gauge(name, help_text, registry=self._registry).set_function(read)
