"""The estimate of each gate: of a metric, or of how much worse than another model's it is on the same documents and
prompts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from slipway_core.lifecycle.verdict import POINT
from slipway_core.protocol.estimate import Estimate
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import HIGHER_IS_BETTER
from slipway_trainer.evaluation.estimates import intervals
from slipway_trainer.evaluation.estimates.intervals import Bounds
from slipway_trainer.evaluation.estimates.observed import Observed

_DIGITS = 9
"""Significant digits: 32 gates fit into a result."""


def of_gates(
    gates: Iterable[Gate],
    candidate: Mapping[str, Observed],
    live: Mapping[str, Observed] | None,
    base: Mapping[str, Observed] | None = None,
) -> list[Estimate | None]:
    """Returns one estimate a gate, in their order; None for a metric without bounds, or that was not measured.

    Args:
        candidate, live, base: what was observed of each metric; None where no live version, or no base model, was
            measured.
    """
    return [_of_gate(gate, candidate, base if gate.against_base else live) for gate in gates]


def _of_gate(gate: Gate, candidate: Mapping[str, Observed], other: Mapping[str, Observed] | None) -> Estimate | None:
    mine = candidate.get(gate.metric)
    if mine is None or gate.confidence is None or gate.confidence == POINT:
        return None
    if gate.max_regression is None:
        told = mine.told
        return _estimate(of_metric(mine, gate.confidence), int(told.sum()), mine.n)
    theirs = (other or {}).get(gate.metric)
    if theirs is None or len(theirs.sums) != len(mine.sums):
        return None
    both = mine.told & theirs.told
    if not both.any():
        return None
    after, before = (theirs, mine) if gate.metric in HIGHER_IS_BETTER else (mine, theirs)
    bounds = of_difference(after, before, gate.confidence)
    return _estimate(bounds, int(both.sum()), int(mine.sizes[both].sum()))


def of_metric(observed: Observed, confidence: float) -> Bounds:
    """Returns a metric with its bounds."""
    told = observed.told
    sums, sizes = observed.sums[told], observed.sizes[told]
    if observed.kind == "Share":
        return intervals.of_share(sums, sizes, confidence)
    bounds = intervals.of_ratio(sums, sizes, confidence)
    if observed.kind == "Ratio":
        return bounds
    return Bounds(_exp(bounds.value), _exp(bounds.lower), _exp(bounds.upper))


def of_difference(after: Observed, before: Observed, confidence: float) -> Bounds:
    """Returns how much a metric is above what it was before, of the clusters that tell something of both."""
    both = after.told & before.told
    sums, sizes = after.sums[both], after.sizes[both]
    sums_before, sizes_before = before.sums[both], before.sizes[both]
    if after.kind == "Share":
        # Of as many rows on either side, or of what their means are where one side has more.
        differences = sums / sizes - sums_before / sizes_before
        rows = np.minimum(sizes, sizes_before)
        return intervals.of_share_difference(differences * rows, rows, confidence)
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
