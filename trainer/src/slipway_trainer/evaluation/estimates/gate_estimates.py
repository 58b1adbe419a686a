"""The estimate of each gate: of a metric, or of how much worse than another model's it is on the same documents and
prompts."""

from __future__ import annotations

import math

import numpy as np

from slipway_core.lifecycle.verdict import by_bounds
from slipway_core.protocol.estimate import Estimate
from slipway_core.resources.evaluation import POINT, Gate
from slipway_core.resources.gate_metrics import higher_is_better
from slipway_trainer.bounds import intervals
from slipway_trainer.bounds.intervals import Bounds
from slipway_trainer.evaluation.estimates.observed import Observed

_DIGITS = 9
"""Significant digits: 32 gates fit into a result."""


def of_gate(gate: Gate, mine: Observed | None, theirs: Observed | None) -> Estimate | None:
    """Returns the estimate of a gate; None for a metric without bounds, or that was not measured.

    Args:
        mine, theirs: what was observed of the gate's metric, cluster by cluster, of the candidate and of the live
            version; None where nothing was.
    """
    if mine is None or not by_bounds(gate):
        return None
    if gate.max_regression is None:
        return estimate(mine, gate.confidence or POINT)
    if theirs is None or len(theirs.sums) != len(mine.sums):
        return None
    both = _comparable(mine, theirs)
    if not both.any():
        return None
    after, before = (theirs, mine) if higher_is_better(gate.metric, gate.task) else (mine, theirs)
    bounds = of_difference(after, before, gate.confidence or POINT)
    return _estimate(bounds, int(both.sum()), int(mine.sizes[both].sum()))


def estimate(observed: Observed, confidence: float) -> Estimate | None:
    """Returns a metric with its bounds; None where they are above the largest number, or nothing tells."""
    if not observed.told.any():
        return None
    return _estimate(of_metric(observed, confidence), int(observed.told.sum()), observed.n)


def _comparable(mine: Observed, theirs: Observed) -> np.ndarray:
    """Returns bool [clusters], of which both tell something about the same text."""
    both = mine.told & theirs.told
    return both if mine.text is None or theirs.text is None else both & (mine.text == theirs.text)


def of_metric(observed: Observed, confidence: float) -> Bounds:
    """Returns a metric with its bounds."""
    told = observed.told
    sums, sizes = observed.sums[told], observed.sizes[told]
    if observed.kind == "Share":
        return intervals.of_share(sums, sizes, confidence)
    if observed.kind == "Sums":
        assert observed.parts is not None
        assert observed.figure is not None
        return intervals.of_sums(observed.parts[told], sizes, observed.figure, confidence)
    bounds = intervals.of_ratio(sums, sizes, confidence)
    if observed.kind == "Ratio":
        return bounds
    return Bounds(_exp(bounds.value), _exp(bounds.lower), _exp(bounds.upper))


def of_difference(after: Observed, before: Observed, confidence: float) -> Bounds:
    """Returns how much a metric is above what it was before, of the clusters that tell something of both."""
    both = _comparable(after, before)
    sums, sizes = after.sums[both], after.sizes[both]
    sums_before, sizes_before = before.sums[both], before.sizes[both]
    if after.kind == "Share":
        # Of as many rows on either side, or of what their means are where one side has more.
        differences = sums / sizes - sums_before / sizes_before
        rows = np.minimum(sizes, sizes_before)
        return intervals.of_share_difference(differences * rows, rows, confidence)
    if after.kind == "Sums":
        assert after.parts is not None
        assert before.parts is not None
        assert after.figure is not None
        return intervals.of_sums_difference(after.parts[both], sizes, before.parts[both], after.figure, confidence)
    return intervals.of_ratio_difference(
        sums, sizes, sums_before, sizes_before, confidence, exponential=after.kind == "ExpRatio"
    )


def _estimate(bounds: Bounds, clusters: int, n: int) -> Estimate | None:
    figures = (bounds.value, bounds.lower, bounds.upper)
    if not all(math.isfinite(one) for one in figures):
        return None
    value, lower, upper = (float(f"{one:.{_DIGITS}g}") for one in figures)
    return Estimate(value, lower, upper, n, clusters)


def _exp(exponent: float) -> float:
    try:
        return math.exp(exponent)
    except OverflowError:
        return math.inf
