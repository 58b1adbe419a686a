"""One-sided bounds of figures that are made of clusters: documents, conversations, or rows that belong together.

Rows of one cluster are alike, so the number of clusters is what counts (Miller 2024, arXiv:2411.00640, section 2.2).
Each bound holds by itself with the confidence that is asked for: of 0.95 the two together are a 90 % interval.

Every choice here was held against a simulation (tests/unit/trainer/bounds/test_bounds_hold.py): at a boundary, at
most 7.1 % of 1,000 verdicts may be wrong where 5 % are asked for. The textbook forms do not hold that:

- Student's t with clusters - 1 on a ratio passes 10 to 16 % of what should not, where documents differ in length as
  they do. Hence the residuals are divided by what their own weight took from them (CR2 of Bell and McCaffrey 2002), and
  the degrees of freedom are those of Kish's effective number of clusters.
- A skewed figure misses by a third more on one side. Hence the studentised bootstrap beside it (Efron 1979; Hall 1988),
  and the wider of the two counts.
- Wilson's interval of a share, taken on one side, is wrong in 9 to 12 % of cases near 0 and 1 (Cai 2005 shows why).
  Hence two imagined clusters, one at either end (Agresti and Coull 1998; Agresti and Caffo 2000), which serve scores
  between 0 and 1 as well, and say what a sample without any variance cannot: that another row might be otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slipway_trainer.bounds import student

Array = NDArray[np.float64]
BOOTSTRAP = 999
"""Resamples; one less than a round number, so that a quantile is one of them."""
BOOTSTRAP_CLUSTERS = 1000
"""From more of them on, a mean is as good as normal."""
_SEED = 20_251_128
_TINY = 1e-12


class SumFigure(Protocol):
    """A figure of several sums, such as BLEU. Twice as large sums give the same figure, as with every ratio of sums."""

    def __call__(self, sums: Array) -> tuple[Array, Array]:
        """Returns, of sums [..., k], the figure [...], and by how much it grows with each of them [..., k]."""
        ...

    def ends(self, sums: Array) -> Array:
        """Returns float64 [2, k]: of as much text as these sums [k] are of, those where all of it is right, and where
        nothing is."""
        ...


@dataclass(frozen=True)
class Bounds:
    value: float
    lower: float
    upper: float


def of_ratio(sums: Array, sizes: Array, confidence: float) -> Bounds:
    """Returns the bounds of sum(sums) / sum(sizes): nats a token, bits a byte.

    Args:
        sums, sizes: float64 [clusters], of each cluster.

    Source: the linearised ratio estimator (Cochran 1977, 6.3), with the corrections that this module states.
    """

    def statistic(index: Any) -> tuple[Array, Array]:
        y, x = sums[index], sizes[index]
        total = x.sum(-1, keepdims=True)
        ratio = y.sum(-1, keepdims=True) / total
        return ratio[..., 0], _standard_error((y - ratio * x) / total, x / total)

    return _bounds(statistic, sizes, confidence)


def of_ratio_difference(
    sums: Array, sizes: Array, before: Array, sizes_before: Array, confidence: float, *, exponential: bool = False
) -> Bounds:
    """Returns the bounds of how much a ratio is above what it was before, on the same clusters.

    Paired: what makes a document hard makes it so for both, and that falls out.

    Args:
        sums, sizes, before, sizes_before: float64 [clusters], of each cluster, in the same order.
        exponential: of exp(ratio) instead, as perplexity is; by the delta method.
    """

    def statistic(index: Any) -> tuple[Array, Array]:
        influence, values = [], []
        for y, x in ((sums[index], sizes[index]), (before[index], sizes_before[index])):
            total = x.sum(-1, keepdims=True)
            ratio = y.sum(-1, keepdims=True) / total
            value = np.exp(ratio) if exponential else ratio
            influence.append((value if exponential else 1.0) * (y - ratio * x) / total)
            values.append(value[..., 0])
        weights = sizes[index] / sizes[index].sum(-1, keepdims=True)
        return values[0] - values[1], _standard_error(influence[0] - influence[1], weights)

    return _bounds(statistic, sizes, confidence)


def of_sums(parts: Array, sizes: Array, figure: SumFigure, confidence: float) -> Bounds:
    """Returns the bounds of a figure that is made of several sums, such as BLEU.

    Linearised: a cluster's influence is what its own sums, times the figure's slopes, add (Euler: of a figure that does
    not change when all sums are doubled these add up to 0). Where all answers are right, or none has anything right,
    nothing varies; so the wider counts of this and of the same with two imagined clusters, one wholly right and one
    wholly wrong, as for a share.

    Args:
        parts: float64 [clusters, k], the sums of each cluster.
        sizes: float64 [clusters], its length, by which it counts.
    """

    bounds = _bounds(lambda index: _of_sums(parts[index], sizes[index], figure), sizes, confidence)
    more = np.concatenate([parts, figure.ends(parts.mean(0))])
    return _widened(bounds, _of_sums, more, _with_two(sizes), figure, confidence)


def of_sums_difference(parts: Array, sizes: Array, before: Array, figure: SumFigure, confidence: float) -> Bounds:
    """Returns the bounds of how much such a figure is above what it was before, on the same clusters. Of the two
    imagined clusters one has become right that was wrong, and one wrong that was right.

    Args:
        parts, before: float64 [clusters, k], in the same order.
        sizes: float64 [clusters].
    """
    both = np.stack([parts, before], 1)
    ends = figure.ends(parts.mean(0))

    def statistic(own: Array, weights: Array, made: SumFigure) -> tuple[Array, Array]:
        after, then = own[..., 0, :], own[..., 1, :]
        return _of_sums(after, weights, made, then)

    bounds = _bounds(lambda index: statistic(both[index], sizes[index], figure), sizes, confidence)
    more = np.concatenate([both, np.stack([ends, ends[::-1]], 1)])
    return _widened(bounds, statistic, more, _with_two(sizes), figure, confidence)


def _of_sums(parts: Array, sizes: Array, figure: SumFigure, before: Array | None = None) -> tuple[Array, Array]:
    """Returns a figure of sums, or how much it is above what it was before, and its standard error."""
    value, slopes = figure(parts.sum(-2))
    influence = (parts * slopes[..., None, :]).sum(-1)
    if before is not None:
        then, slopes = figure(before.sum(-2))
        value, influence = value - then, influence - (before * slopes[..., None, :]).sum(-1)
    return value, _standard_error(influence, sizes / sizes.sum(-1, keepdims=True))


def _with_two(sizes: Array) -> Array:
    return np.concatenate([sizes, np.full(2, sizes.mean())])


def _widened(
    bounds: Bounds,
    statistic: Callable[[Array, Array, SumFigure], tuple[Array, Array]],
    parts: Array,
    sizes: Array,
    figure: SumFigure,
    confidence: float,
) -> Bounds:
    """Returns bounds that are no narrower than those with the imagined clusters."""
    value, error = (float(one) for one in statistic(parts, sizes, figure))
    width = _quantile(sizes, confidence) * error
    return Bounds(bounds.value, min(bounds.lower, value - width), max(bounds.upper, value + width))


def of_share(sums: Array, sizes: Array, confidence: float) -> Bounds:
    """Returns the bounds of the mean of scores between 0 and 1, or of a share.

    Args:
        sums: float64 [clusters], the scores of each cluster added up.
        sizes: float64 [clusters], how many they are.
    """
    value = float(sums.sum() / sizes.sum())
    one = sizes.mean()
    low, high = _with_imagined(sums, sizes, [0.0, one], one, confidence)
    return Bounds(value, max(0.0, min(low, value)), min(1.0, max(high, value)))


def of_share_difference(differences: Array, sizes: Array, confidence: float) -> Bounds:
    """Returns the bounds of the mean difference of scores between 0 and 1, row by row of the same rows.

    Two ways, and the wider counts: imagined clusters at -1 and 1; and what grew and what shrank by itself, put together
    as Zou and Donner (2008) do, which holds where nearly all rows are as before.

    Args:
        differences: float64 [clusters], those of the rows of each cluster added up.
        sizes: float64 [clusters], how many rows it has.
    """
    value = float(differences.sum() / sizes.sum())
    one = sizes.mean()
    low, high = _with_imagined(differences, sizes, [-one, one], one, confidence)
    grew = of_share(np.maximum(differences, 0.0), sizes, confidence)
    shrank = of_share(np.maximum(-differences, 0.0), sizes, confidence)
    below = float(np.hypot(grew.value - grew.lower, shrank.upper - shrank.value))
    above = float(np.hypot(grew.upper - grew.value, shrank.value - shrank.lower))
    return Bounds(value, max(-1.0, min(low, value - below)), min(1.0, max(high, value + above)))


def _with_imagined(
    sums: Array, sizes: Array, imagined: list[float], size: float, confidence: float
) -> tuple[float, float]:
    """Returns the bounds of a ratio with more clusters of a size, whose sums are given."""
    y = np.concatenate([sums, np.array(imagined)])
    x = np.concatenate([sizes, np.full(len(imagined), size)])
    total = x.sum()
    ratio = float(y.sum() / total)
    error = float(_standard_error((y - ratio * x) / total, x / total))
    width = _quantile(x, confidence) * error
    return ratio - width, ratio + width


def _bounds(statistic: Callable[[Any], tuple[Array, Array]], sizes: Array, confidence: float) -> Bounds:
    """Returns the wider of Student's t and the studentised bootstrap."""
    every = np.arange(len(sizes))
    value, error = (float(one) for one in statistic(every))
    width = _quantile(sizes, confidence) * error
    lower, upper = value - width, value + width
    if len(sizes) <= BOOTSTRAP_CLUSTERS and error > 0:
        drawn = np.random.default_rng(_SEED).integers(0, len(sizes), (BOOTSTRAP, len(sizes)))
        values, errors = statistic(drawn)
        scaled = (values - value) / np.maximum(errors, _TINY * error)
        low, high = np.quantile(scaled, [1 - confidence, confidence])
        lower, upper = min(lower, value - float(high) * error), max(upper, value - float(low) * error)
    return Bounds(value, lower, upper)


def _standard_error(influence: Array, weights: Array) -> Array:
    """Returns the standard error of what is a sum of the clusters' influences (CR2).

    Args:
        influence: float64 [..., clusters]; their sum is 0.
        weights: float64 [..., clusters], each cluster's share of the whole.
    """
    return np.sqrt((influence**2 / np.maximum(1 - weights, _TINY)).sum(-1))


def _quantile(sizes: Array, confidence: float) -> float:
    """Returns Student's t quantile for as many clusters of equal size as tell as much as these (Kish 1965)."""
    effective = float(sizes.sum() ** 2 / (sizes**2).sum())
    return student.quantile(max(1.0, effective - 1), confidence)
