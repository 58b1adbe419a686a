"""The documents of a stage whose sources have shares of its tokens, in the order in which their turn comes.

Each source is an endless stream of its documents: all of them in one order of the seed, then all of them in another,
and so on. The stage sees the streams merged: next comes the source that is furthest behind its share. So wherever the
stage ends, each source has given a beginning of its own stream: each of its documents was seen n or n + 1 times, and
its tokens are its share of all to within one document of each source.

A window of that order is a function of the documents, the shares, the seed and its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from slipway_trainer.batches import order
from slipway_trainer.batches.packing import Bins, pack


@dataclass(frozen=True)
class SourceShare:
    """A source of a stage; its documents stand one after the other in the shards."""

    documents: int
    share: float
    """Of the tokens that the stage sees; together they are 1. One without documents has none."""


@dataclass(frozen=True)
class Mixture:
    sources: tuple[SourceShare, ...]
    """In the order of their documents."""
    windows: tuple[tuple[int, int], ...] = ()
    """Rows and tokens of each window up to the end of the stage. They follow from the rest, and are kept so that an
    attempt need not pack all that earlier ones have seen to find its place. Empty where they are not known."""


class MixedOrder:
    """The documents of a stage, window after window.

    Args:
        lengths: [documents], tokens of each document.
        sources: in the order of their documents.
        seed: of the stage.
        window_tokens: of all sources together in a window, to within a document of each.
    """

    def __init__(self, lengths: np.ndarray, sources: tuple[SourceShare, ...], *, seed: int, window_tokens: int) -> None:
        self._window_tokens = window_tokens
        firsts = accumulate((source.documents for source in sources), initial=0)
        self._streams = [
            _Stream(np.asarray(lengths[first : first + source.documents], np.int64), first, source.share, number, seed)
            for number, (source, first) in enumerate(zip(sources, firsts, strict=False))
            if source.share > 0
        ]

    def window(self, number: int) -> np.ndarray:
        """Returns documents (int64) as indices into the shards, in their order."""
        start = number * self._window_tokens
        parts = [stream.between(start, start + self._window_tokens) for stream in self._streams]
        turns = np.concatenate([own for own, _ in parts])
        return np.concatenate([own for _, own in parts])[np.argsort(turns, kind="stable")]


class _Stream:
    """One source. The turn of a document is the number of tokens of all sources after which its middle stands."""

    def __init__(self, lengths: np.ndarray, first: int, share: float, number: int, seed: int) -> None:
        self._lengths, self._first, self._share = lengths, first, share
        self._number, self._seed = number, seed
        self._tokens = int(lengths.sum())
        self._cycles = range(0)
        self._turns = np.zeros(0)
        self._documents = np.zeros(0, np.int64)

    def between(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns turn (float64) and index of the documents whose turn comes from `start` on and before `end`."""
        first, last = (int(turn * self._share // self._tokens) for turn in (start, end))
        if first not in self._cycles or last not in self._cycles:
            self._lay_out(range(first, last + 1))
        found = slice(*np.searchsorted(self._turns, (start, end)).tolist())
        return self._turns[found], self._documents[found]

    def _lay_out(self, cycles: range) -> None:
        """Of a small source, a window has many cycles: they are made at once."""
        documents = order.cycles(len(self._lengths), seed=self._seed, source=self._number, numbers=cycles)
        lengths = self._lengths[documents]
        middles = self._tokens * np.array(cycles)[:, None] + np.cumsum(lengths, axis=1) - lengths / 2
        self._cycles, self._turns = cycles, (middles / self._share).ravel()
        self._documents = (documents + self._first).ravel()


def mean_length(lengths: np.ndarray, sources: tuple[SourceShare, ...]) -> float:
    """Returns the tokens of a document, on average over the order of a mixture.

    Args:
        lengths: [documents], tokens of each document.
        sources: in the order of their documents.
    """
    firsts = accumulate((source.documents for source in sources), initial=0)
    documents = sum(
        source.share * source.documents / int(np.asarray(lengths[first : first + source.documents], np.int64).sum())
        for source, first in zip(sources, firsts, strict=False)
        if source.share > 0
    )
    return 1 / documents


def pack_at_most(lengths: np.ndarray, rows: int, capacity: int) -> Bins:
    """Packs as many documents from the beginning of a list as make this many rows.

    All of it may make fewer. What is left out stands behind all that is not.
    """
    parts: list[Bins] = []
    start = 0
    while rows > 0 and start < len(lengths):
        count, bins = _beginning(lengths[start:], rows, capacity)
        parts.append(Bins(bins.offsets, bins.documents + start))
        start += count
        rows -= len(bins)
    return Bins.joined(parts)


def _beginning(lengths: np.ndarray, rows: int, capacity: int) -> tuple[int, Bins]:
    """Returns how many documents are packed of a beginning that takes at most `rows` rows, and one more takes more."""
    whole = pack(lengths, capacity)
    if len(whole) <= rows:
        return len(lengths), whole
    fits, not_fits, best = 0, len(lengths), Bins.empty()
    while not_fits - fits > 1:
        middle = (fits + not_fits) // 2
        bins = pack(lengths[:middle], capacity)
        if len(bins) <= rows:
            fits, best = middle, bins
        else:
            not_fits = middle
    return fits, best
