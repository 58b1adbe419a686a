"""What a figure is made of, document by document: the material of its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from slipway_trainer.evaluation.estimates.intervals import Array

Kind = Literal["Ratio", "ExpRatio", "Share"]


@dataclass(frozen=True)
class Observed:
    """A metric as sums and sizes of clusters; clusters stand in the order of the held-out data.

    A `Ratio` is sum(sums) / sum(sizes), an `ExpRatio` exp of it, a `Share` a ratio of scores between 0 and 1.
    """

    kind: Kind
    sums: Array
    """float64 [clusters]."""
    sizes: Array
    """float64 [clusters]. A cluster of size 0 tells nothing."""

    @property
    def told(self) -> np.ndarray:
        """Bool [clusters], which of them tell something."""
        return self.sizes > 0

    @property
    def n(self) -> int:
        return int(self.sizes.sum())
