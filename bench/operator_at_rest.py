"""What the operator still does once the last run has ended: it settles, it idles, and now and then it lists everything.

One share of a minute says nothing of these three. What is on its way when the last run ends (verdicts that are signed,
events that come late) is over once, whenever that minute begins; and the list that comes every ten minutes is in a
minute or is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx
from bench.process_usage import Usage, usage_of
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.operator.operator_process import OperatorProcess

from slipway_operator.kube import kinds

IDLE_SECONDS = 60
RESYNC_SECONDS = 600
"""Between two lists of everything: the chart's default, and the operator's."""
_QUIET = 3
"""Looks in a row that find nothing new."""
_BETWEEN_LOOKS = 2.0
"""Seconds. Each look has the operator write down its metrics, which is counted as what it does."""
_LAST_LISTED = kinds.CHILDREN[-1].kind
"""Of a list of everything."""


@dataclass(frozen=True)
class Counts:
    """What an operator has counted since its start."""

    passes: int = 0
    requests: int = 0
    """To the API server, without those of its Lease and of lists; the watches count nowhere."""
    lists: int = 0
    """Of everything, that are done."""
    queued: int = 0
    """Now."""

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(self.passes - earlier.passes, self.requests - earlier.requests, self.lists - earlier.lists)


@dataclass(frozen=True)
class AtRest:
    settling_seconds: float
    settling: Usage
    settling_did: Counts
    idle: Usage
    """In IDLE_SECONDS without a list of everything."""
    idle_did: Counts
    list_cpu_seconds: float = 0.0
    """Of one list of everything."""

    @property
    def idle_share(self) -> float:
        """Of a core, without the lists of everything."""
        return self.idle.cpu_seconds / IDLE_SECONDS

    @property
    def share(self) -> float:
        """Of a core, with them."""
        return self.idle_share + self.list_cpu_seconds / RESYNC_SECONDS


def counts(metrics: str) -> Counts:
    """Reads the operator's metrics."""
    passes = requests = lists = queued = 0
    for sample in (one for family in text_string_to_metric_families(metrics) for one in family.samples):
        name, labels, number = sample.name.removeprefix("slipway_operator_"), sample.labels, int(sample.value)
        if name == "reconcile_seconds_count":
            passes += number
        elif name == "queue_depth":
            queued = number
        elif name == "api_requests_total" and labels["verb"] == "list":
            lists += number if (labels["kind"], labels["code"]) == (_LAST_LISTED, "200") else 0
        elif name == "api_requests_total" and labels["kind"] != "Lease":
            requests += number
    return Counts(passes, requests, lists, queued)


def counts_of(operator: OperatorProcess) -> Counts:
    return counts(httpx.get(f"http://127.0.0.1:{operator.port}/metrics", timeout=30).text)


def settle(look: Callable[[], Counts], sleep: Callable[[float], None] = time.sleep) -> Counts:
    """Waits until there are no passes, and no requests but of its Lease and of lists. Returns what it has counted."""
    found, quiet = look(), 0
    while quiet < _QUIET:
        sleep(_BETWEEN_LOOKS)
        before, found = found, look()
        same = (found.passes, found.requests, found.queued) == (before.passes, before.requests, 0)
        quiet = quiet + 1 if same else 0
    return found


def observe(operator: OperatorProcess) -> AtRest:
    """Looks on from the moment on in which the last run has ended."""
    pid = _pid(operator)
    begun, first, used = time.monotonic(), counts_of(operator), usage_of(pid)
    settled = settle(lambda: counts_of(operator))
    seconds = time.monotonic() - begun - _QUIET * _BETWEEN_LOOKS
    settling = usage_of(pid) - used
    while True:
        before, used = counts_of(operator), usage_of(pid)
        time.sleep(IDLE_SECONDS)
        idle = usage_of(pid) - used
        did = counts_of(operator) - before
        if not did.lists:
            return AtRest(seconds, settling, settled - first, idle, did)


def with_lists(rest: AtRest, operator: OperatorProcess, number: int = 2) -> AtRest:
    """Adds what a list of everything takes, by an operator that has nothing to do but lists, one after the other."""
    pid = _pid(operator)
    settle(lambda: counts_of(operator))
    _lists(operator, counts_of(operator).lists + 1)
    begun, before, used = time.monotonic(), counts_of(operator), usage_of(pid)
    _lists(operator, before.lists + number)
    idle = rest.idle_share * (time.monotonic() - begun)
    took = (usage_of(pid) - used).cpu_seconds - idle
    return replace(rest, list_cpu_seconds=max(0.0, took) / number)


def _lists(operator: OperatorProcess, number: int) -> None:
    while counts_of(operator).lists < number:
        time.sleep(_BETWEEN_LOOKS)


def _pid(operator: OperatorProcess) -> int:
    assert operator.process is not None
    return operator.process.pid
