"""Student's t distribution. Not SciPy's: the process of a step does without SciPy, whose import takes seconds."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)
_NEARLY_NORMAL, _NORMAL = 30, 10_000
_FARTHEST = 12.0
"""A quantile of a nearly normal one is below it for every confidence below 1 - 1e-9."""


@lru_cache(maxsize=256)
def quantile(freedom: float, confidence: float) -> float:
    """Returns the value that is not exceeded with a confidence from 0.5 to below 1 - 1e-9.

    With t = sqrt(freedom) tan(a) the density of the angle a is proportional to cos(a) ** (freedom - 1), which is
    smooth. It is integrated by Gauss and Legendre's rule, and the angle found by bisection; four digits are right.

    Args:
        freedom: degrees of freedom, at least 1, whole or not.
    """
    if freedom > _NORMAL:
        z = NormalDist().inv_cdf(confidence)
        return z + (z**3 + z) / (4 * freedom)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)

    def above_the_middle(angle: float) -> float:
        angles = angle / 2 * (_NODES + 1)
        return scale * angle / 2 * float((_WEIGHTS * np.cos(angles) ** (freedom - 1)).sum())

    low, high = 0.0, math.atan(_FARTHEST / math.sqrt(freedom)) if freedom > _NEARLY_NORMAL else math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if above_the_middle(middle) < confidence - 0.5:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan((low + high) / 2)
