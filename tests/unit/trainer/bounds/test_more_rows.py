"""What the gate says of how many more would decide, held against the bounds that so many have."""

import re

import numpy as np
import pytest

from slipway_core.lifecycle.verdict import Measured, judge
from slipway_core.protocol.estimate import Estimate
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.status import Verdict
from slipway_trainer.bounds import intervals
from slipway_trainer.prepare import gate_power


def estimate(bounds, n):
    value, lower, upper = (float(f"{one:.6g}") for one in (bounds.value, bounds.lower, bounds.upper))
    return Estimate(value, lower, upper, n, n)


def said(gate, estimate):
    """Returns how many in all the gate says would decide; None where it says that none soon would."""
    other = {gate.metric: 0.5} if gate.max_regression is not None else None
    measured = Measured({gate.metric: estimate.value}, baseline=other, estimates=[estimate])
    judged = judge([gate], measured)
    assert judged.verdict is Verdict.INCONCLUSIVE
    found = re.search(r"about ([\d,]+) more prompts would decide, beside the ([\d,]+) there are", judged.reason)
    return sum(int(one.replace(",", "")) for one in found.groups()) if found else None


CONFIDENCE = 0.95


def right(n, tenths):
    return np.repeat([1.0, 0.0], [n * tenths // 10, n - n * tenths // 10])


def decides(scores, asked):
    found = intervals.of_share(scores, np.ones(len(scores)), CONFIDENCE)
    return not found.lower < asked <= found.upper


AT_ENDS = [
    (n, asked, confidence)
    for n in (8, 20, 50, 200)
    for asked in (0.05, 0.01, 0.002)
    for confidence in (0.9, 0.95, 0.99)
    if intervals.of_share(np.zeros(n), np.ones(n), confidence).upper > asked
]


@pytest.mark.parametrize(("n", "asked", "confidence"), AT_ENDS)
def test_at_an_end_as_many_are_told_as_prepare_tells_to_within_one(n, asked, confidence):
    none = intervals.of_share(np.zeros(n), np.ones(n), confidence)
    all_right = intervals.of_share(np.ones(n), np.ones(n), confidence)
    at_most = Gate(metric="empty_rate", max=asked, confidence=confidence)
    at_least = Gate(metric="exact_match", min=round(1 - asked, 6), confidence=confidence)
    needed = gate_power._fewest(
        1 << 20, lambda m: m > 0 and intervals.of_share(np.zeros(m), np.ones(m), confidence).upper <= asked
    )
    assert abs(said(at_most, estimate(none, n)) - needed) <= 1
    assert abs(said(at_least, estimate(all_right, n)) - needed) <= 1


def test_the_number_is_that_of_the_warning_of_prepare():
    gate = Gate(metric="empty_rate", max=0.01, confidence=0.99)
    _, never = gate_power._share(gate, np.ones(20))
    assert "Have 332 prompts or more" in never
    assert said(gate, estimate(intervals.of_share(np.zeros(20), np.ones(20), 0.99), 20)) == 332


BETWEEN = [
    (n, tenths, away)
    for n in (10, 40, 200)
    for tenths in (1, 3, 5, 8, 9)
    for away in (-0.1, -0.05, -0.02, 0.02, 0.05, 0.1)
    if not decides(right(n, tenths), round(tenths / 10 + away, 6))
]


@pytest.mark.parametrize(("n", "tenths", "away"), BETWEEN)
def test_between_as_many_are_told_as_would_decide_to_within_a_percent(n, tenths, away):
    """Tolerance: 1 % of the number, and ten, since only so many prompts have the same share."""
    asked = round(tenths / 10 + away, 6)
    gate = Gate(metric="exact_match", min=asked, confidence=CONFIDENCE)
    needed = 10 * gate_power._fewest(5000, lambda k: k > 0 and decides(right(10 * k, tenths), asked))
    found = said(gate, estimate(intervals.of_share(right(n, tenths), np.ones(n), CONFIDENCE), n))
    assert abs(found - needed) <= 0.01 * needed + 10


@pytest.mark.parametrize("n", [10, 50])
def test_of_marks_between_so_many_of_the_same_marks_decide(n):
    marks = np.tile([0.2, 0.4, 0.5, 0.7, 0.9], n // 5)
    bounds = intervals.of_share(marks, np.ones(n), 0.95)
    found = said(Gate(metric="judge_score", min=0.5, confidence=0.95), estimate(bounds, n))
    for times, holds in ((1.1, True), (0.9, False)):
        many = np.tile(marks, 200)[: round(found * times / 5) * 5]
        assert (intervals.of_share(many, np.ones(len(many)), 0.95).lower >= 0.5) is holds


@pytest.mark.parametrize("n", [8, 20, 100])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_where_nothing_got_worse_as_many_are_told_as_a_difference_takes_to_within_a_percent(n, confidence):
    bounds = intervals.of_share_difference(np.zeros(n), np.ones(n), confidence)
    gate = Gate(metric="exact_match", max_regression=0.01, confidence=confidence)
    found = said(gate, estimate(bounds, n))
    needed = gate_power._fewest(
        1 << 16, lambda m: m > 0 and intervals.of_share_difference(np.zeros(m), np.ones(m), confidence).upper <= 0.01
    )
    assert found == pytest.approx(needed, rel=0.01)


@pytest.mark.parametrize("size", [1.0, 3.0])
def test_clusters_of_unequal_size_are_told_to_within_a_tenth(size):
    sizes = np.tile([1.0, size], 20)
    bounds = intervals.of_share(np.zeros(40), sizes, 0.95)
    found = said(Gate(metric="empty_rate", max=0.01, confidence=0.95), estimate(bounds, 40))
    needed = gate_power._fewest(
        5000,
        lambda m: m > 1 and intervals.of_share(np.zeros(m), np.tile([1.0, size], m)[:m], 0.95).upper <= 0.01,
    )
    assert found == pytest.approx(needed, rel=0.1)


def test_one_that_went_each_way_is_no_sameness():
    moved = np.array([1.0, -1.0, *np.zeros(48)])
    bounds = intervals.of_share_difference(moved, np.ones(50), 0.95)
    found = said(Gate(metric="exact_match", max_regression=0.02, confidence=0.95), estimate(bounds, 50))
    many = intervals.of_share_difference(np.tile(moved, -(-found // 50)), np.ones(50 * -(-found // 50)), 0.95)
    assert many.upper <= 0.02
