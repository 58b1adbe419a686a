"""Runs of units, as numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np

from slipway_trainer.batches.order import mix


@dataclass(frozen=True)
class Numbered:
    """Texts one behind the other, each unit as its place in the list of those that occur.

    To look a unit up is what comparing costs most: it is done once, for all that texts are compared by.
    """

    numbers: np.ndarray
    """int64 [units]"""
    lengths: np.ndarray
    """int64 [texts]"""
    occurring: Sequence[str]

    def owners(self) -> np.ndarray:
        """Returns the text that each unit is of, int64 [units]."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def number_units(texts: Sequence[Sequence[str]]) -> Numbered:
    """Numbers the units of some texts."""
    lengths = np.array([len(text) for text in texts], np.int64)
    places: defaultdict[str, int] = defaultdict(count().__next__)
    found = map(places.__getitem__, chain.from_iterable(texts))
    return Numbered(np.fromiter(found, np.int64, count=int(lengths.sum())), lengths, list(places))


def gram_hashes(ids: np.ndarray, size: int) -> np.ndarray:
    """Returns a uint64 hash of every run of `size` ids, [len(ids) - size + 1]."""
    places = max(len(ids) - size + 1, 0)
    found = np.zeros(places, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(size):
            found = found * np.uint64(0xD1342543DE82EF95) + ids[offset : offset + places]
    return mix(found)
