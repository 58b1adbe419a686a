"""Which rows are left out for one that stands before them. Pure.

Every row that goes says the same as one that stays, or nearly the same: chains of likeness, in which the last is like
the first no more, take nothing out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slipway_trainer.data.row_marks import PERMUTATIONS

NEAR_SHARE = 0.8
"""Of the minima of two sketches that agree: an estimate of the Jaccard index of their grams, whose standard error is
0.035 there."""
BAND = 8
"""Minima that are looked up together, in 16 bands. At least one band is the same in 95 of 100 pairs with a Jaccard
index of 0.8, in nearly all with 0.9, and in 6 of 100 with 0.5, which the estimate then tells apart."""
MOST_COMPARED = 64
"""Rows of a band with which another one is compared; so many that say different things and share it are a form filled
in, and the work for it is bounded."""


@dataclass(frozen=True)
class Duplicates:
    """What becomes of each row."""

    of: np.ndarray
    """int64 [rows]: the row that stays and says the same; -1 for one that stays itself."""
    share: np.ndarray
    """float32 [rows]: 1 for the same row, else the estimated likeness."""

    @property
    def exact(self) -> int:
        return int(np.count_nonzero((self.of >= 0) & (self.share == 1)))

    @property
    def near(self) -> int:
        return int(np.count_nonzero((self.of >= 0) & (self.share < 1)))

    @property
    def left_out(self) -> np.ndarray:
        """bool [rows]."""
        return self.of >= 0


def find(keys: np.ndarray, sketches: np.ndarray | None = None, places: np.ndarray | None = None) -> Duplicates:
    """Returns which rows are left out: of the same ones all but the first, then those that are near to one that stays.

    Args:
        keys: uint64 [rows], equal for equal rows.
        sketches: uint8 [any, sketches, PERMUTATIONS], of which the first is looked up and all must be near; may be
            mapped from a file, of which then only what is needed is held. None where the same rows alone go.
        places: int64 [rows], where the sketches of each row are; in the order of the rows where left out.
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    firsts = first[inverse]
    same = firsts != np.arange(len(keys))
    of = np.where(same, firsts, -1).astype(np.int64)
    share = np.where(same, 1.0, 0.0).astype(np.float32)
    if sketches is not None:
        _near(sketches, np.arange(len(keys)) if places is None else places, np.flatnonzero(~same), of, share)
        # What was the same as a row that went is like the one for which that went.
        moved = np.flatnonzero(same)[of[firsts[same]] >= 0]
        of[moved] = of[firsts[moved]]
    return Duplicates(of, share)


def _near(sketches: np.ndarray, places: np.ndarray, rows: np.ndarray, of: np.ndarray, share: np.ndarray) -> None:
    """Finds the near ones among rows that differ; writes into `of` and `share`."""
    shared = np.zeros(len(rows), bool)
    for band in range(PERMUTATIONS // BAND):
        number, count = _numbered(sketches, places[rows], band)
        shared |= count[number] > 1
    rows = rows[shared]
    bands = np.stack([_numbered(sketches, places[rows], band)[0] for band in range(PERMUTATIONS // BAND)], axis=1)
    kept: dict[tuple[int, int], list[int]] = {}
    needed = NEAR_SHARE * PERMUTATIONS
    for row, held in zip(rows.tolist(), bands.tolist(), strict=True):
        own = [kept.setdefault(place, []) for place in enumerate(held)]
        others = sorted({other for found in own for other in found})
        if others:
            agree = np.count_nonzero(sketches[places[others]] == sketches[places[row]], axis=2).min(axis=1)
            if (agree >= needed).any():
                likest = int(np.argmax(agree))
                # Rows that differ may have the same sketch, and are not the same for that.
                of[row], share[row] = others[likest], min(0.999, agree[likest] / PERMUTATIONS)
                continue
        for found in own:
            if len(found) < MOST_COMPARED:
                found.append(row)


def _numbered(sketches: np.ndarray, places: np.ndarray, band: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each row a number of what its band holds (int32), and how many rows each number has."""
    held = np.ascontiguousarray(sketches[:, 0, band * BAND : (band + 1) * BAND]).view(np.uint64)[:, 0][places]
    _, inverse, count = np.unique(held, return_inverse=True, return_counts=True)
    return inverse.astype(np.int32), count
