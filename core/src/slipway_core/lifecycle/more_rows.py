"""About how many documents or prompts a gate on a share would take: the bounds of the evaluation, run forwards.

A bound of a share lies on two imagined clusters, one at either end (`slipway_trainer.bounds.intervals`). So with n
clusters, N = n + 2, a share p becomes p' = (n p + 1) / N, and a bound lies t sqrt(Q / (N (N - 1))) from it, where Q
is the sum of the squared distances from p'. Of a share of 0 or 1 nothing varies but the two, so that the bound is
(1 + t) / N: it nears the end with 1 / n, and not with the root of n.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

_IMAGINED = 2
_SOON = 10_000
"""Times as many clusters as there are that nobody gathers soon."""
_MOST = 1 << 20
"""So many may be asked for however few there are: up to here `prepare` tells how many would do."""
_AS_NARROW = 1.01
"""A bound that is no further than this from the narrowest there is has that width: estimates are rounded."""


def of_share(share: float, bound: float, wanted: float, clusters: int, confidence: float) -> int | None:
    """Returns how many clusters in all would have the bound reach what is wanted, were they like those there are; None
    where that is beyond reach. Exact where all clusters are of one size.

    Args:
        bound: that on the side of what is wanted.
    """
    if wanted < share:
        share, bound, wanted = 1 - share, 1 - bound, 1 - wanted
    varies = _variance(share, bound, clusters, confidence)

    def upper(n: int) -> float:
        return _middle(share, n) + _reach(n, n * varies + _imagined(share, n), confidence)

    return _least(clusters, lambda n: upper(n) <= wanted)


def of_same(bound: float, allowed: float, clusters: int, confidence: float) -> int | None:
    """The same of a share that differs nowhere from what it was before.

    The wider counts of imagined clusters at -1 and 1, and of a share of 0 that grew.
    """

    def upper(n: int) -> float:
        return max(_reach(n, 2, confidence), (1 + _quantile(n + 1, confidence)) / (n + _IMAGINED))

    # Of clusters that differ in size the quantile is another one.
    scale = bound / upper(clusters)
    return _least(clusters, lambda n: scale * upper(n) <= allowed)


def is_same(difference: float, bound: float, clusters: int, confidence: float) -> bool:
    """Whether nothing differs, and not as much one way as the other."""
    narrowest = (1 + _quantile(clusters + 1, confidence)) / (clusters + _IMAGINED)
    return difference == 0 and bound <= _AS_NARROW * max(narrowest, _reach(clusters, 2, confidence))


def _variance(share: float, bound: float, clusters: int, confidence: float) -> float:
    """Returns the variance of clusters' scores that a bound tells."""
    if share in (0, 1):
        return 0.0
    if bound >= 1:
        return share * (1 - share)  # It is cut there, so it tells nothing; more than this no scores vary.
    reach = (bound - _middle(share, clusters)) / _reach(clusters, 1, confidence)
    return max(0.0, (reach**2 - _imagined(share, clusters)) / clusters)


def _middle(share: float, clusters: int) -> float:
    return (clusters * share + 1) / (clusters + _IMAGINED)


def _imagined(share: float, clusters: int) -> float:
    """Returns what the two imagined clusters add to the squared distances, with how they move the middle."""
    middle = _middle(share, clusters)
    return clusters * (share - middle) ** 2 + middle**2 + (1 - middle) ** 2


def _reach(clusters: int, squares: float, confidence: float) -> float:
    freedom = clusters + _IMAGINED - 1
    return _quantile(freedom, confidence) * math.sqrt(squares / ((freedom + 1) * freedom))


def _quantile(freedom: int, confidence: float) -> float:
    """Returns that of Student's t (Abramowitz and Stegun 26.7.5): to three digits from 9 degrees of freedom on."""
    z = NormalDist().inv_cdf(confidence)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _least(clusters: int, enough: Callable[[int], bool]) -> int | None:
    """Returns the smallest number above those there are that is enough, where all larger ones are too."""
    most = max(_SOON * clusters, _MOST)
    if not enough(most):
        return None
    low, high = clusters, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
