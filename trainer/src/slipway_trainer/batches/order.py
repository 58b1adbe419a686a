"""The order in which a stage sees its data: a pure function of the data, the seed and the epoch.

Nothing of it is stored: a resumed stage computes the same order again, on any machine and with any library version,
which is why it rests on a fixed mixing function and not on a library's random generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from slipway_trainer.batches.packing import Bins, pack

_DOCUMENTS, _ROWS, _SHARE, _CYCLE = 1, 2, 3, 4


class Documents(Protocol):
    """What the order depends on; `shards.Shards` is one."""

    @property
    def lengths(self) -> np.ndarray: ...
    @property
    def weights(self) -> np.ndarray: ...


@dataclass(frozen=True)
class DocumentList:
    """Documents of which no more is known."""

    lengths: np.ndarray
    weights: np.ndarray


def epoch(shards: Documents, *, seed: int, epoch: int, max_length: int) -> Bins:
    """Returns the rows of one epoch, packed and shuffled; their documents are indices into the shards.

    A document of weight w is seen w times. Of the documents with a fractional weight an epoch sees that share, and
    over several epochs each is seen within one of epochs × weight times.
    """
    chosen = np.repeat(np.arange(len(shards.lengths)), _times(np.asarray(shards.weights), seed, epoch))
    # Best fit takes equal lengths in their order: shuffled, documents meet other neighbours in every epoch.
    chosen = chosen[_shuffle(len(chosen), seed, epoch, _DOCUMENTS)]
    bins = pack(np.asarray(shards.lengths)[chosen], max_length)
    return shuffled_rows(Bins(bins.offsets, chosen[bins.documents]), seed, epoch)


def shuffled_rows(bins: Bins, seed: int, epoch: int) -> Bins:
    """Returns the rows of an epoch in an order of its own."""
    return bins.take(_shuffle(len(bins), seed, epoch, _ROWS))


def cycles(n: int, *, seed: int, source: int, numbers: range) -> np.ndarray:
    """Returns orders of the n documents of a source (int64 [numbers, n]), one for each time that it is gone through."""
    starts = _start(seed, source, np.array(numbers, np.uint64), _CYCLE)
    with np.errstate(over="ignore"):
        keys = mix(np.arange(n, dtype=np.uint64)[None, :] + starts[:, None])
    return np.argsort(keys, axis=1, kind="stable")


def _times(weights: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """How often each document is seen in this epoch."""
    times = np.ones(len(weights), np.int64)
    for weight in np.unique(weights):
        same = np.flatnonzero(weights == weight)
        # Evenly spread phases: the share of an epoch is exact to one document, not a matter of luck.
        phase = (_shuffle(len(same), seed, 0, _SHARE) + 0.5) / len(same)
        exact = float(weight)
        times[same] = np.floor(exact * (epoch + 1) + phase) - np.floor(exact * epoch + phase)
    return times


def _shuffle(n: int, seed: int, epoch: int, purpose: int) -> np.ndarray:
    """Returns a permutation of n: the order of splitmix64 (Steele, Lea, Flood 2014) keys."""
    with np.errstate(over="ignore"):
        keys = mix(np.arange(n, dtype=np.uint64) + _start(seed, epoch, purpose))
    return np.argsort(keys, kind="stable")


def _start(*words: int | np.ndarray) -> np.ndarray:
    """Returns a number (uint64) that every one of the words decides; as many as the word has that is an array."""
    start = np.zeros(1, np.uint64)
    for word in words:
        start = mix(start ^ np.asarray(word, np.uint64))
    return start


def mix(x: np.ndarray) -> np.ndarray:
    """Returns splitmix64 of each value: uint64 to uint64, one to one."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
