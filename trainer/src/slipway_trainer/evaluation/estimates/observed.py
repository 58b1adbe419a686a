"""What a figure is made of, document by document: the material of the figure, and of its bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slipway_trainer.bounds.intervals import Array, SumFigure

Kind = Literal["Ratio", "ExpRatio", "Share", "Sums"]


@dataclass(frozen=True)
class Observed:
    """A metric as sums and sizes of rows, or of clusters of them; they stand in the order of the held-out data.

    A `Ratio` is sum(sums) / sum(sizes), an `ExpRatio` exp of it, a `Share` a ratio of scores between 0 and 1, and
    `Sums` a figure of several sums, as BLEU is.
    """

    kind: Kind
    sums: Array
    """float64 [rows]."""
    sizes: Array
    """float64 [rows]. One of size 0 tells nothing."""
    parts: Array | None = None
    """float64 [rows, sums] of `Sums`."""
    figure: SumFigure | None = None
    """Of `Sums`, what is made of them."""
    text: Array | None = None
    """float64 [rows], bytes that were scored: rows are compared with those of another model where both scored the same.
    None where there is no other way."""

    @property
    def told(self) -> np.ndarray:
        """Bool [rows], which of them tell something."""
        return self.sizes > 0

    @property
    def n(self) -> int:
        return int(self.sizes.sum())

    @property
    def value(self) -> float:
        """The figure: NaN when nothing tells, and infinite when it is above the largest number."""
        if not self.told.any():
            return math.nan
        if self.kind == "Sums":
            assert self.parts is not None
            assert self.figure is not None
            return float(self.figure(self.parts.sum(0))[0])
        ratio = float(self.sums.sum() / self.sizes.sum())
        if self.kind != "ExpRatio":
            return ratio
        try:
            return math.exp(ratio)
        except OverflowError:
            return math.inf

    def clustered(self, within: np.ndarray, clusters: np.ndarray) -> Observed:
        """Returns the same of clusters of rows.

        Args:
            within: bool [rows], which rows count.
            clusters: int64 [rows], the number of each one's cluster.
        """
        kept = clusters[within]
        numbers, places = np.unique(kept, return_inverse=True)

        def added(values: Array) -> Array:
            found = np.zeros((len(numbers), *values.shape[1:]))
            np.add.at(found, places, values[within])
            return found

        return Observed(
            self.kind,
            added(self.sums),
            added(self.sizes),
            None if self.parts is None else added(self.parts),
            self.figure,
            None if self.text is None else added(self.text),
        )

    def among(self, rows: int, places: Sequence[int]) -> Observed:
        """Returns the same as some of more rows, of which the others tell nothing."""

        def spread(values: Array) -> Array:
            found = np.zeros((rows, *values.shape[1:]))
            found[list(places)] = values
            return found

        parts = None if self.parts is None else spread(self.parts)
        return Observed(self.kind, spread(self.sums), spread(self.sizes), parts, self.figure)
