"""The operator's own Prometheus metrics. Phases are counted from the world when they are asked for, so that they are
never anything but what status says."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from slipway_core.lifecycle.draft import STEP_WARNING
from slipway_core.resources.promotion import JUDGED, PROMOTION_CONDITIONS
from slipway_core.resources.stage import FIXED_STEPS
from slipway_core.resources.status import EndpointPhase, Phase, Verdict
from slipway_core.rollout.draft import HELD_OUT_WORN, KEY_REVOKED, PARITY_FAILED, PARITY_UNKNOWN
from slipway_core.rollout.judged import MANY_JUDGEMENTS
from slipway_operator.cache.world import World
from slipway_operator.kube.kinds import MODEL_ENDPOINT, OWN, TRAINING_RUN, Kind
from slipway_operator.kube.manifest import Manifest, at, condition
from slipway_operator.loop.work_queue import WorkQueue

UNSIGNED = "Unsigned"
"""Of an endpoint that goes on with a model which a release let through that signed nothing."""
CONDITIONS = (
    KEY_REVOKED,
    PARITY_FAILED,
    PARITY_UNKNOWN,
    HELD_OUT_WORN,
    MANY_JUDGEMENTS,
    *PROMOTION_CONDITIONS,
    UNSIGNED,
)
"""Of endpoints, that are counted."""
UNSIGNABLE = ("SigningKeyLost", "SigningKeyUnusable")
"""Reasons of the condition Refused of a run whose verdict cannot be signed."""
_STAGE_SECONDS = (5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600)
_LIVE_SECONDS = (5, 10, 20, 40, 60, 120, 300, 600, 1800)
_PASS_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)


class Metrics:
    """Belongs to one process; every series is in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._stage = Histogram(
            "slipway_operator_stage_seconds",
            "Seconds from the start of a step to its end, by what it does.",
            ["step"],
            buckets=_STAGE_SECONDS,
            registry=self.registry,
        )
        self._verdicts = Counter(
            "slipway_operator_verdicts", "Verdicts of the gates.", ["verdict"], registry=self.registry
        )
        self._live = Histogram(
            "slipway_operator_gate_to_live_seconds",
            "Seconds from the end of the evaluation that a model passed to its first request.",
            buckets=_LIVE_SECONDS,
            registry=self.registry,
        )
        self._passes = Histogram(
            "slipway_operator_reconcile_seconds",
            "Seconds of one pass over an object.",
            ["kind"],
            buckets=_PASS_SECONDS,
            registry=self.registry,
        )
        self._errors = Counter(
            "slipway_operator_reconcile_errors",
            "Passes that were repeated because of an error.",
            ["kind"],
            registry=self.registry,
        )
        self._requests = Counter(
            "slipway_operator_api_requests",
            "Requests to the API server, the watches left out.",
            ["verb", "kind", "code"],
            registry=self.registry,
        )
        # A series that begins at its first event hides that event from rate() and increase().
        for verdict in Verdict:
            self._verdicts.labels(verdict.value)
        for step in ("train", *FIXED_STEPS):
            self._stage.labels(step)
        for kind in (TRAINING_RUN, MODEL_ENDPOINT):
            self._errors.labels(kind.kind)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def stage_finished(self, step_kind: str, seconds: float) -> None:
        """Notes how long a step took: prepare, train, export or evaluate."""
        self._stage.labels(step_kind).observe(seconds)

    def verdict(self, verdict: str) -> None:
        self._verdicts.labels(verdict).inc()

    def gate_to_live(self, seconds: float) -> None:
        self._live.observe(seconds)

    def reconciled(self, kind: str, seconds: float) -> None:
        self._passes.labels(kind).observe(seconds)

    def reconcile_failed(self, kind: str) -> None:
        self._errors.labels(kind).inc()

    def requested(self, verb: str, kind: str, code: str) -> None:
        self._requests.labels(verb, kind, code).inc()

    def include(self, gauges: Gauges) -> None:
        self.registry.register(gauges)

    def text(self) -> bytes:
        """Returns all of them in the text format of Prometheus."""
        return generate_latest(self.registry)


class Ages(Protocol):
    def ages(self) -> dict[str, float]: ...


class Gauges:
    """What is read off the world, the queue and the watches at the time of a scrape."""

    def __init__(self, world: World, queue: WorkQueue, watches: Ages, leading: Callable[[], bool]) -> None:
        self.world = world
        self.queue = queue
        self.watches = watches
        self.leading = leading

    def collect(self) -> Iterable[Metric]:
        yield self._phases("slipway_operator_runs", "TrainingRuns by phase.", TRAINING_RUN, [*Phase])
        yield self._phases("slipway_operator_endpoints", "ModelEndpoints by phase.", MODEL_ENDPOINT, [*EndpointPhase])
        warned = sum(1 for run in self.world.all(TRAINING_RUN) if condition(run, STEP_WARNING))
        yield _gauge("slipway_operator_runs_with_warnings", "TrainingRuns whose step goes on with a warning.", warned)
        yield _gauge(
            "slipway_operator_runs_unsigned",
            "TrainingRuns whose verdict is not signed, since the key is lost or unusable.",
            sum(1 for run in self.world.all(TRAINING_RUN) if _is_unsigned(run)),
        )
        yield from self._endpoints()
        left = self.world.count_orphans()
        yield _gauge("slipway_operator_orphaned_folders", "Folders that runs left which are gone.", left)
        yield _gauge("slipway_operator_queue_depth", "Objects that wait for a pass.", len(self.queue))
        yield _gauge("slipway_operator_queue_oldest_seconds", "How long the first of them waits.", self.queue.oldest())
        yield _gauge("slipway_operator_leader", "1 in the replica that reconciles.", float(self.leading()))
        beyond = GaugeMetricFamily(
            "slipway_operator_too_many", "What is beyond the limits of its namespace, by kind.", labels=["kind"]
        )
        for kind in OWN:
            beyond.add_metric([kind.kind], len(self.world.all_aside(kind)))
        beyond.add_metric(["Namespace"], len(self.world.overfull_namespaces()))
        yield beyond
        ages = GaugeMetricFamily(
            "slipway_operator_watch_age_seconds", "Seconds since the watch of a kind asked last.", labels=["kind"]
        )
        for kind, age in self.watches.ages().items():
            ages.add_metric([kind], age)
        yield ages

    def _endpoints(self) -> Iterable[Metric]:
        """What is to be known of endpoints beside their phase; no series names one, for there may be any number."""
        endpoints = self.world.all(MODEL_ENDPOINT)
        found = GaugeMetricFamily(
            "slipway_operator_endpoint_conditions", "ModelEndpoints that have a condition.", labels=["condition"]
        )
        for type_ in CONDITIONS:
            found.add_metric([type_], sum(1 for endpoint in endpoints if _has(endpoint, type_)))
        yield found
        yield _gauge(
            "slipway_operator_held_out_judgements",
            "Judgements upon held-out data that shares documents, of the ModelEndpoint that has the most.",
            max((int(at(one, "status", "heldOut").get("judgements") or 0) for one in endpoints), default=0),
        )

    def _phases(self, name: str, text: str, kind: Kind, phases: list[str]) -> Metric:
        found = GaugeMetricFamily(name, text, labels=["phase"])
        tally = Tally(str(at(manifest, "status").get("phase") or "Pending") for manifest in self.world.all(kind))
        for phase in {*map(str, phases), *tally}:
            found.add_metric([phase], tally[phase])
        return found


def _has(endpoint: Manifest, type_: str) -> bool:
    if type_ != UNSIGNED:
        return condition(endpoint, type_) is not None
    judged = condition(endpoint, JUDGED)
    return judged is not None and judged.get("reason") == UNSIGNED


def _is_unsigned(run: Manifest) -> bool:
    refused = condition(run, "Refused")
    return refused is not None and refused.get("reason") in UNSIGNABLE


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
