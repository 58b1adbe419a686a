"""When the operator has settled, read from what it counts itself."""

from __future__ import annotations

import pytest
from bench.operator_at_rest import AtRest, Counts, counts, settle
from bench.process_usage import Usage

from slipway_operator.cache.world import World
from slipway_operator.loop.metrics import Gauges, Metrics
from slipway_operator.loop.work_queue import WorkQueue


class NoAges:
    def ages(self) -> dict[str, float]:
        return {}


def test_counts_are_those_of_the_operators_own_metrics():
    metrics = Metrics()
    queue = WorkQueue(lambda: 0.0)
    metrics.include(Gauges(World(), queue, NoAges(), lambda: True))
    assert counts(metrics.text().decode()) == Counts()
    for kind in ("TrainingRun", "TrainingRun", "ModelEndpoint"):
        metrics.reconciled(kind, 0.1)
    for verb, kind, code in (
        ("get", "Secret", "200"),
        ("get", "ConfigMap", "404"),
        ("update", "Lease", "200"),
        ("list", "Job", "200"),
        ("list", "PersistentVolumeClaim", "error"),
        ("list", "PersistentVolumeClaim", "200"),
    ):
        metrics.requested(verb, kind, code)
    assert counts(metrics.text().decode()) == Counts(passes=3, requests=2, lists=1)


@pytest.mark.parametrize(
    ("looks", "wanted"),
    [
        ([Counts(5, 9)] * 4, 4),
        # A pass, a request or a key in the line begins the quiet anew; a list of everything does not.
        ([Counts(5, 9), Counts(5, 9), *[Counts(6, 9)] * 4], 6),
        ([Counts(5, 9), Counts(5, 9), *[Counts(5, 10)] * 4], 6),
        ([Counts(5, 9), Counts(5, 9), Counts(5, 9, 0, 1), *[Counts(5, 9)] * 3], 6),
        ([Counts(5, 9), Counts(5, 9, 1), Counts(5, 9, 2), Counts(5, 9, 2)], 4),
    ],
)
def test_it_has_settled_once_several_looks_find_nothing_new(looks: list[Counts], wanted: int):
    left = list(looks)
    assert settle(lambda: left.pop(0), lambda seconds: None) == looks[-1]
    assert len(looks) - len(left) == wanted


def test_the_share_of_a_core_has_the_lists_that_are_in_no_idle_minute():
    rest = AtRest(3.0, Usage(1.0, 1.0, 1.0), Counts(), Usage(0.12, 1.0, 1.0), Counts(), list_cpu_seconds=3.0)
    assert (rest.idle_share, rest.share) == (pytest.approx(0.002), pytest.approx(0.007))
