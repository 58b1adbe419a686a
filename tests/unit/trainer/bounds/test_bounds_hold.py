"""Bounds against truth: how often a verdict at the boundary is wrong, and how often a planted effect is found.

All is drawn with a fixed seed. 1,000 verdicts of which 5 % may be wrong have a standard error of 0.7 %: 7.1 % is three
above it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from slipway_trainer.bounds import intervals
from slipway_trainer.bounds.intervals import Array, Bounds

TIMES = 1000
CONFIDENCE = 0.95
MOST_WRONG = 0.071


def wrong(draw: Callable[[np.random.Generator], Bounds], truth: float, times: int = TIMES) -> tuple[float, float]:
    """Returns how often the upper bound is not above the truth, and how often the lower one is."""
    random = np.random.default_rng(0)
    found = [draw(random) for _ in range(times)]
    passed = sum(one.upper <= truth - 1e-12 for one in found)
    failed = sum(one.lower > truth + 1e-12 for one in found)
    return passed / times, failed / times


def documents(random: np.random.Generator, clusters: int, spread: float) -> tuple[Array, Array]:
    """Returns nats and tokens of documents whose lengths and difficulty differ."""
    tokens = np.maximum(2, random.lognormal(5, spread, clusters).round())
    return np.exp(random.normal(0, 0.15, clusters)) * 3 * tokens, tokens


@pytest.mark.slow
@pytest.mark.parametrize(("clusters", "spread"), [(8, 0.0), (8, 0.8), (20, 0.8), (40, 1.0)])
def test_C_a_ratio_at_the_boundary_is_rarely_judged_wrongly(clusters: int, spread: float) -> None:
    truth = 3 * float(np.exp(0.15**2 / 2))
    passed, failed = wrong(lambda random: intervals.of_ratio(*documents(random, clusters, spread), CONFIDENCE), truth)
    assert passed <= MOST_WRONG
    assert failed <= MOST_WRONG


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("rows", [10, 30, 100, 400])
def test_C_a_share_at_the_boundary_is_rarely_judged_wrongly(share: float, rows: int) -> None:
    ones = np.ones(rows)
    passed, failed = wrong(
        lambda random: intervals.of_share((random.random(rows) < share) * 1.0, ones, CONFIDENCE), share
    )
    assert passed <= MOST_WRONG
    assert failed <= MOST_WRONG


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("clusters", [10, 40, 100])
def test_C_a_share_of_clustered_rows_at_the_boundary_is_rarely_judged_wrongly(share: float, clusters: int) -> None:
    def draw(random: np.random.Generator) -> Bounds:
        rows = random.integers(1, 9, clusters)
        own = random.beta(share * 1.5, (1 - share) * 1.5, clusters)
        return intervals.of_share(random.binomial(rows, own) * 1.0, rows * 1.0, CONFIDENCE)

    passed, failed = wrong(draw, share)
    assert passed <= MOST_WRONG
    assert failed <= MOST_WRONG


@pytest.mark.parametrize("clusters", [10, 40, 100])
def test_C_the_mean_of_scores_with_many_ties_is_rarely_judged_wrongly(clusters: int) -> None:
    def draw(random: np.random.Generator) -> Bounds:
        kind = random.random(clusters)
        scores = np.where(kind < 0.8, 1.0, np.where(kind < 0.85, 0.0, random.random(clusters)))
        return intervals.of_share(scores, np.ones(clusters), CONFIDENCE)

    passed, failed = wrong(draw, 0.8 + 0.15 * 0.5)
    assert passed <= MOST_WRONG
    assert failed <= MOST_WRONG


@pytest.mark.parametrize(("worse", "better"), [(0.01, 0.0), (0.03, 0.0), (0.05, 0.02), (0.2, 0.15), (0.3, 0.1)])
@pytest.mark.parametrize("rows", [10, 30, 100, 400])
def test_C_a_regression_at_its_margin_is_rarely_judged_wrongly(worse: float, better: float, rows: int) -> None:
    def draw(random: np.random.Generator) -> Bounds:
        kind = random.random(rows)
        change = np.where(kind < worse, 1.0, np.where(kind < worse + better, -1.0, 0.0))
        return intervals.of_share_difference(change, np.ones(rows), CONFIDENCE)

    passed, failed = wrong(draw, worse - better)
    assert passed <= MOST_WRONG
    assert failed <= MOST_WRONG


@pytest.mark.slow
@pytest.mark.parametrize("exponential", [False, True])
@pytest.mark.parametrize("clusters", [10, 40])
def test_C_a_paired_ratio_at_its_margin_is_rarely_judged_wrongly(clusters: int, exponential: bool) -> None:
    def draw(random: np.random.Generator) -> Bounds:
        before, tokens = documents(random, clusters, 0.8)
        # Weighted by length the effect is 0.02 in all, and differs between documents.
        after = before + tokens * random.normal(0.02, 0.03, clusters)
        return intervals.of_ratio_difference(after, tokens, before, tokens, CONFIDENCE, exponential=exponential)

    level = 3 * float(np.exp(0.15**2 / 2))
    truth = float(np.exp(level + 0.02) - np.exp(level)) if exponential else 0.02
    passed, failed = wrong(draw, truth)
    assert passed <= MOST_WRONG
    assert failed <= MOST_WRONG


def test_a_paired_test_finds_what_an_unpaired_one_does_not() -> None:
    """An effect of 1 % of what documents differ by, on 40 of them."""

    def draw(random: np.random.Generator) -> Bounds:
        before, tokens = documents(random, 40, 0.8)
        after = before - tokens * random.normal(0.03, 0.03, 40)
        return intervals.of_ratio_difference(after, tokens, before, tokens, CONFIDENCE)

    random = np.random.default_rng(1)
    found = [draw(random) for _ in range(200)]
    assert np.mean([one.upper < 0 for one in found]) > 0.95
    alone = [intervals.of_ratio(*documents(random, 40, 0.8), CONFIDENCE) for _ in range(50)]
    assert np.median([one.upper - one.lower for one in alone]) > 0.2, "the difference would drown in this"


def test_a_share_with_enough_rows_is_told_from_another() -> None:
    """Power: 0.7 is told from 0.6 with 200 rows in four of five cases."""
    random = np.random.default_rng(2)
    found = [intervals.of_share((random.random(200) < 0.7) * 1.0, np.ones(200), CONFIDENCE) for _ in range(300)]
    assert np.mean([one.lower > 0.6 for one in found]) > 0.8


def test_a_sample_without_variance_is_not_certain() -> None:
    ones = np.ones(20)
    right = intervals.of_share(ones, ones, CONFIDENCE)
    assert right.value == 1.0
    assert 0.8 < right.lower < 0.93, "a twentieth of all rows could be wrong, and none of 20 show it"
    same = intervals.of_share_difference(0 * ones, ones, CONFIDENCE)
    assert same.value == 0
    assert same.upper > 0.08


def test_rows_of_one_cluster_count_once() -> None:
    """Ten copies of a row say no more than the row."""
    random = np.random.default_rng(3)
    scores = (random.random(30) < 0.6) * 1.0
    alone = intervals.of_share(scores, np.ones(30), CONFIDENCE)
    copied = intervals.of_share(10 * scores, np.full(30, 10.0), CONFIDENCE)
    assert copied.lower == pytest.approx(alone.lower)
    assert copied.upper == pytest.approx(alone.upper)


def test_one_document_that_is_nearly_all_of_the_text_makes_the_bounds_wide() -> None:
    random = np.random.default_rng(4)
    tokens = np.array([10_000.0] + [100.0] * 19)
    nats = tokens * np.exp(random.normal(0, 0.15, 20)) * 3
    even = np.full(20, float(tokens.mean()))
    wide, narrow = (
        intervals.of_ratio(nats, tokens, CONFIDENCE),
        intervals.of_ratio(nats / tokens * even, even, CONFIDENCE),
    )
    assert wide.upper - wide.value > 2 * (narrow.upper - narrow.value)


def test_the_same_data_gives_the_same_bounds() -> None:
    nats, tokens = documents(np.random.default_rng(5), 30, 0.8)
    assert intervals.of_ratio(nats, tokens, CONFIDENCE) == intervals.of_ratio(nats, tokens, CONFIDENCE)
