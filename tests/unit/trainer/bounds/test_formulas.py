"""The bounds are what their formulas say, computed here once more in the plainest way and with SciPy's quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from slipway_trainer.bounds import intervals
from slipway_trainer.bounds.intervals import BOOTSTRAP, BOOTSTRAP_CLUSTERS, Array, Bounds

CONFIDENCE = 0.9
MANY = BOOTSTRAP_CLUSTERS + 1
"""Clusters from which on nothing is resampled."""
FEW = 12


def clusters(number: int, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Returns nats and tokens of documents of very different lengths, of one model and of another one, which counts
    their tokens otherwise."""
    random = np.random.default_rng(seed)
    tokens = np.maximum(2, random.lognormal(3, 1.0, number).round())
    nats = np.exp(random.normal(0, 0.3, number)) * tokens
    return nats, tokens, nats * np.exp(random.normal(0.05, 0.1, number)), tokens + random.integers(0, 5, number)


def shares(sizes: Array) -> Array:
    return sizes / sizes.sum()


def half_width(influence: Array, sizes: Array) -> float:
    """Student's t by Kish's number of clusters, on a CR2 standard error."""
    variance = sum(one**2 / (1 - weight) for one, weight in zip(influence, shares(sizes), strict=True))
    effective = 1 / sum(shares(sizes) ** 2)
    return float(stdtrit(effective - 1, CONFIDENCE) * np.sqrt(variance))


def is_about(found: Bounds, value: float, below: float, above: float) -> None:
    assert (found.value, found.lower, found.upper) == pytest.approx((value, value - below, value + above), rel=1e-4)


def of_ratio(nats: Array, tokens: Array) -> tuple[float, Array]:
    ratio = float(nats.sum() / tokens.sum())
    return ratio, (nats - ratio * tokens) / tokens.sum()


def test_a_ratio_of_many_clusters() -> None:
    nats, tokens, *_ = clusters(MANY)
    value, influence = of_ratio(nats, tokens)
    width = half_width(influence, tokens)
    is_about(intervals.of_ratio(nats, tokens, CONFIDENCE), value, width, width)


def test_a_ratio_of_few_clusters_has_the_wider_of_students_t_and_the_studentised_bootstrap() -> None:
    """Of a skewed sample, on the side of its tail the latter."""
    nats, tokens, *_ = clusters(FEW, seed=3)
    nats[0] *= 4
    value, influence = of_ratio(nats, tokens)
    width = half_width(influence, tokens)

    def error(influence: Array, tokens: Array) -> float:
        return float(np.sqrt((influence**2 / np.maximum(1 - shares(tokens), 1e-12)).sum()))

    own = error(influence, tokens)
    scaled = []
    for drawn in np.random.default_rng(20_251_128).integers(0, FEW, (BOOTSTRAP, FEW)):
        again, its_influence = of_ratio(nats[drawn], tokens[drawn])
        scaled.append((again - value) / max(error(its_influence, tokens[drawn]), 1e-12 * own))
    low, high = np.quantile(scaled, [1 - CONFIDENCE, CONFIDENCE])
    assert -low * own > width > high * own, "so that each way counts on one side"
    is_about(intervals.of_ratio(nats, tokens, CONFIDENCE), value, width, -float(low) * own)
    mirrored = intervals.of_ratio(10 * tokens - nats, tokens, CONFIDENCE)
    is_about(mirrored, 10 - value, -float(low) * own, width)


def test_a_bootstrap_is_made_of_a_thousand_clusters_and_not_of_more() -> None:
    for number, resampled in ((BOOTSTRAP_CLUSTERS, True), (MANY, False)):
        nats, tokens, *_ = clusters(number)
        nats[0] *= 300
        _, influence = of_ratio(nats, tokens)
        found = intervals.of_ratio(nats, tokens, CONFIDENCE)
        assert (found.upper - found.value > half_width(influence, tokens) * 1.01) is resampled


def test_where_nothing_varies_the_bounds_are_the_value() -> None:
    found = intervals.of_ratio(np.full(FEW, 6.0), np.full(FEW, 2.0), CONFIDENCE)
    assert (found.value, found.lower, found.upper) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("exponential", [False, True])
def test_a_difference_of_two_ratios_of_the_same_clusters(exponential: bool) -> None:
    nats, tokens, before, tokens_before = clusters(MANY)
    (now, influence), (then, influence_then) = of_ratio(nats, tokens), of_ratio(before, tokens_before)
    if exponential:
        now, then = float(np.exp(now)), float(np.exp(then))
        influence, influence_then = now * influence, then * influence_then
    width = half_width(influence - influence_then, tokens)
    found = intervals.of_ratio_difference(nats, tokens, before, tokens_before, CONFIDENCE, exponential=exponential)
    is_about(found, now - then, width, width)


# --------------------------------------------------------------------------------------------------------- shares


def with_imagined(sums: Array, sizes: Array, *imagined: float) -> tuple[float, float]:
    """A ratio with further clusters of the usual size, of which each has so much of it."""
    usual = sizes.mean()
    sums = np.concatenate([sums, [one * usual for one in imagined]])
    sizes = np.concatenate([sizes, np.full(len(imagined), usual)])
    ratio, influence = of_ratio(sums, sizes)
    width = half_width(influence, sizes)
    return ratio - width, ratio + width


def rows(number: int) -> tuple[Array, Array]:
    """Returns how many rows of each cluster are right, and how many there are."""
    random = np.random.default_rng(1)
    sizes = random.integers(1, 9, number) * 1.0
    return random.binomial(sizes.astype(int), 0.7) * 1.0, sizes


def test_a_share_has_two_imagined_clusters() -> None:
    right, sizes = rows(FEW)
    low, high = with_imagined(right, sizes, 0.0, 1.0)
    found = intervals.of_share(right, sizes, CONFIDENCE)
    assert (found.value, found.lower, found.upper) == pytest.approx((right.sum() / sizes.sum(), low, high), rel=1e-4)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_is_between_0_and_1_and_within_its_bounds(share: float) -> None:
    sizes = np.ones(FEW)
    found = intervals.of_share(share * sizes, sizes, CONFIDENCE)
    assert 0 <= found.lower <= found.value == share <= found.upper <= 1
    assert (found.lower, found.upper)[round(share)] == share
    low, high = with_imagined(share * sizes, sizes, 0.0, 1.0)
    inner = (high, low)[round(share)]
    assert (found.upper, found.lower)[round(share)] == pytest.approx(inner, rel=1e-4)


def test_a_difference_of_shares_has_the_wider_of_two_ways() -> None:
    _, sizes = rows(FEW)
    for changes in ([1, 0, 0, 0, -1, 0], [2, -1, 1, -2, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 2, 1, 0, 1]):
        change = np.clip(np.array(changes * 2) * 1.0, -sizes, sizes)
        value = change.sum() / sizes.sum()
        low, high = with_imagined(change, sizes, -1.0, 1.0)
        grew = intervals.of_share(np.where(change > 0, change, 0), sizes, CONFIDENCE)
        shrank = intervals.of_share(np.where(change < 0, -change, 0), sizes, CONFIDENCE)
        below = np.sqrt((grew.value - grew.lower) ** 2 + (shrank.upper - shrank.value) ** 2)
        above = np.sqrt((grew.upper - grew.value) ** 2 + (shrank.value - shrank.lower) ** 2)
        found = intervals.of_share_difference(change, sizes, CONFIDENCE)
        wanted = value, min(low, value - below), max(high, value + above)
        assert (found.value, found.lower, found.upper) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("change", [-1.0, 1.0])
def test_a_difference_of_shares_is_between_minus_1_and_1(change: float) -> None:
    sizes = np.ones(FEW)
    found = intervals.of_share_difference(change * sizes, sizes, CONFIDENCE)
    assert -1 <= found.lower <= found.value == change <= found.upper <= 1


# ----------------------------------------------------------------------------------------------- figures of sums


class Quotient:
    """The simplest figure of two sums: how much of the second the first is."""

    def __call__(self, sums: Array) -> tuple[Array, Array]:
        above, below = sums[..., 0], sums[..., 1]
        return above / below, np.stack([1 / below, -above / below**2], -1)

    def ends(self, sums: Array) -> Array:
        return np.array([[sums[1], sums[1]], [0.0, sums[1]]])


def test_a_figure_of_sums_is_a_ratio_where_it_is_one_and_no_narrower_with_two_imagined_clusters() -> None:
    right, sizes = rows(MANY)
    value, influence = of_ratio(right, sizes)
    width = half_width(influence, sizes)
    low, high = with_imagined(right, sizes, 1.0, 0.0)
    found = intervals.of_sums(np.stack([right, sizes], 1), sizes, Quotient(), CONFIDENCE)
    wanted = value, min(value - width, low), max(value + width, high)
    assert (found.value, found.lower, found.upper) == pytest.approx(wanted, rel=1e-4)


def test_few_clusters_of_a_figure_of_sums_are_resampled_as_those_of_a_ratio() -> None:
    right, sizes = rows(FEW)
    before = np.clip(right - np.arange(FEW) % 2, 0, sizes)
    both = [np.stack([one, sizes], 1) for one in (right, before)]
    single = intervals.of_sums(both[0], sizes, Quotient(), CONFIDENCE)
    paired = intervals.of_sums_difference(both[0], sizes, both[1], Quotient(), CONFIDENCE)
    ratio = intervals.of_ratio(right, sizes, CONFIDENCE)
    difference = intervals.of_ratio_difference(right, sizes, before, sizes, CONFIDENCE)
    for found, wanted in ((single, ratio), (paired, difference)):
        assert found.value == pytest.approx(wanted.value)
        assert found.lower <= wanted.lower + 1e-9
        assert found.upper >= wanted.upper - 1e-9
    low, high = with_imagined(right, sizes, 1.0, 0.0)
    assert (single.lower, single.upper) == pytest.approx((min(ratio.lower, low), max(ratio.upper, high)), rel=1e-4)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_figure_of_sums_without_variance_is_not_certain(share: float) -> None:
    sizes = np.full(FEW, 3.0)
    found = intervals.of_sums(np.stack([share * sizes, sizes], 1), sizes, Quotient(), CONFIDENCE)
    low, high = with_imagined(share * sizes, sizes, 1.0, 0.0)
    wanted = share, min(low, share), max(high, share)
    assert (found.value, found.lower, found.upper) == pytest.approx(wanted, rel=1e-4)


def test_a_difference_of_figures_of_sums_is_paired() -> None:
    right, sizes = rows(MANY)
    random = np.random.default_rng(2)
    before = np.clip(right - random.integers(0, 2, MANY), 0, sizes)
    (now, influence), (then, influence_then) = of_ratio(right, sizes), of_ratio(before, sizes)
    width = half_width(influence - influence_then, sizes)
    usual = sizes.mean()
    more = np.concatenate([sizes, [usual, usual]])
    (again, own), (again_then, own_then) = (
        of_ratio(np.concatenate([one, ends]), more) for one, ends in ((right, [usual, 0]), (before, [0, usual]))
    )
    wider = half_width(own - own_then, more)
    found = intervals.of_sums_difference(
        np.stack([right, sizes], 1), sizes, np.stack([before, sizes], 1), Quotient(), CONFIDENCE
    )
    value = now - then
    wanted = value, min(value - width, again - again_then - wider), max(value + width, again - again_then + wider)
    assert (found.value, found.lower, found.upper) == pytest.approx(wanted, rel=1e-4)


def test_one_cluster_that_is_all_of_the_text_has_no_bounds_worth_the_name() -> None:
    """Kish counts one of it, and Student's t of no degrees of freedom is that of one."""
    nats, tokens = np.array([300.0, 1.0]), np.array([100.0, 1.0])
    found = intervals.of_ratio(nats, tokens, CONFIDENCE)
    _, influence = of_ratio(nats, tokens)
    error = np.sqrt(sum(one**2 / (1 - weight) for one, weight in zip(influence, shares(tokens), strict=True)))
    assert found.upper - found.value >= float(stdtrit(1, CONFIDENCE)) * error * 0.999
