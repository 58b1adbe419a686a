"""Passages that many training documents have, and when they count for nothing: a licence, the foot of a page.

A held-out text that shares a licence with the training data is no copy of it, and one that was scraped a thousand times
stands in many training documents as well. What tells them apart is the rest of the held-out text:

- common: a gram that stands in COMMON_DOCUMENTS training documents or more that differ from each other. A document
  that is there a thousand times is one document.
- own: units in runs of OWN_UNITS or more that no gram of any training document covers. A word that was changed is a run
  of one, so a copy with changes has hardly any; a text that is there in a thousand versions has none.
- A text of which OWN_SHARE or more is its own is looked for again without its common grams, by the same rules. It is an
  overlap where a training document has enough of the rest; where none has, its boilerplate is discounted, and said.

All else is judged whole: a text of which all is known, and one that is mostly a licence, since a gate on it would
measure memory, whoever wrote it. What this does not tell from boilerplate: a text that was scraped without a quarter of
it, in 32 versions or more, while the quarter stands nowhere.

Counting is by a sketch of 64 places a gram, into one of which each document falls: it never counts more documents than
there are, so that nothing is discounted too early, and it is the same in whatever order and by however many processes
the documents are read. 32 of 64 places are taken after 44 documents on average (linear counting; Whang, Vander-Zanden,
Taylor, 1990).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slipway_trainer.batches.order import mix

COMMON_DOCUMENTS = 32
OWN_UNITS = 8
OWN_SHARE = 0.25
_PLACE_BITS = 6


@dataclass(frozen=True)
class Sightings:
    """In which training documents some grams of an index stand."""

    places: np.ndarray
    """int64 [grams]: their places in the index, each once."""
    marks: np.ndarray
    """uint64 [grams]: a bit for each place of the sketch that is taken."""

    @classmethod
    def nothing(cls) -> Sightings:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.uint64))

    @classmethod
    def of(cls, grams: np.ndarray, keys: np.ndarray) -> Sightings:
        """Returns the sightings of a gram, by its place, in the row with a key, for each of these pairs."""
        if not len(grams):
            return cls.nothing()
        order = np.argsort(grams, kind="stable")
        ordered = grams[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        bits = np.uint64(1) << (mix(keys[order]) >> np.uint64(64 - _PLACE_BITS))
        return cls(ordered[starts], np.bitwise_or.reduceat(bits, starts))

    def add_to(self, marks: np.ndarray) -> None:
        """Adds them to the marks of all grams of the index."""
        marks[self.places] |= self.marks


@dataclass(frozen=True)
class Verdict:
    """What of a held-out text counts for nothing."""

    common: np.ndarray
    """bool [grams, in the order of the text]."""
    known_rest: float
    """Share of its other grams that stand in some training document: no single one has more of them."""
    own_share: float
    """Of its units."""

    @property
    def common_share(self) -> float:
        return float(self.common.mean())


def judge(marks: np.ndarray, size: int) -> Verdict | None:
    """Returns what of a text counts for nothing; None for a text that is judged whole.

    Args:
        marks: uint64 [grams, in the order of the text] of its grams of `size` units.
    """
    common = np.bitwise_count(marks) >= COMMON_DOCUMENTS
    own_share = _own(marks > 0, size) / (len(marks) + size - 1)
    if not common.any() or own_share < OWN_SHARE:
        return None
    return Verdict(common, known_rest=float((marks[~common] > 0).mean()), own_share=own_share)


def _own(known: np.ndarray, size: int) -> int:
    """How many units stand in long runs that no known gram covers."""
    covered = np.convolve(known, np.ones(size, np.int64)) > 0
    edges = np.flatnonzero(np.diff(covered, prepend=True, append=True))
    runs = edges[1::2] - edges[::2]
    return int(runs[runs >= OWN_UNITS].sum())
