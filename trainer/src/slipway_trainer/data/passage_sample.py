"""A sample of the passages that a model has learned from, small enough to go with it.

A later run compares its model with this one on held-out text, and text that this one has learned flatters it. The
training data cannot go with a model. Of its passages of PASSAGE units (13; Brown et al., 2020)
those go whose hash is below a threshold, MOST of them at the most: 1 MiB. What is looked up is chosen by the same
threshold: of a text, a share of `rate` is looked up, and the answer is exact, but for two passages that have the same
hash of 64 bits. Where the training data is small (`below`: 3 MB) and has no more passages than MOST, all of them are
there; of much data that says little, a share as of any other.
A text of fewer than PASSAGE units is a passage of its own, one of fewer than SHORTEST is none.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipway_trainer.data.grams import Numbered, gram_hashes, number_units

PASSAGE, SHORTEST = 13, 8
MOST = 1 << 17
NAME = "training-passages.npy"
"""In the artifact."""
_ALL = (1 << 64) - 1
_LARGEST = 8 * (MOST + 1) + 4096
"""Bytes of the file: the threshold and the hashes, behind the header of numpy."""
_BYTES_A_UNIT, _SPARE = 3, 8


@dataclass(frozen=True)
class PassageSample:
    below: int
    """All passages of the training data whose hash is below it are here."""
    hashes: np.ndarray
    """uint64, sorted, each once."""

    @property
    def rate(self) -> float:
        """Share of all passages that are looked up."""
        return self.below / _ALL

    def known(self, passages: np.ndarray) -> int:
        """Returns how many of these passages, as `of` gave them, are here."""
        return int(np.isin(passages, self.hashes).sum())

    def joined(self, other: PassageSample) -> PassageSample:
        """Returns the sample of both."""
        below = min(self.below, other.below)
        return _cut(below, np.unique(np.concatenate([self.hashes, other.hashes])))

    def to_bytes(self) -> bytes:
        file = io.BytesIO()
        np.save(file, np.concatenate([np.array([self.below], np.uint64), self.hashes]), allow_pickle=False)
        return file.getvalue()


class Collector:
    """Gathers the sample of all training data from those of its blocks, in any order, in bounded memory."""

    def __init__(self, below: int) -> None:
        self._below, self._parts, self._size = below, list[np.ndarray](), 0

    def add(self, passages: np.ndarray) -> None:
        """Adds the passages of a block, as `of` gave them."""
        self._parts.append(passages)
        self._size += len(passages)
        if self._size > 4 * MOST:
            found = self.result()
            self._below, self._parts, self._size = found.below, [found.hashes], len(found.hashes)

    def result(self) -> PassageSample:
        return _cut(self._below, np.unique(np.concatenate([np.zeros(0, np.uint64), *self._parts])))


def below(text_bytes: int) -> int:
    """Returns a threshold that leaves enough of so much text to choose from, and not much more."""
    expected = text_bytes / _BYTES_A_UNIT
    return _ALL if expected <= _SPARE * MOST else int(_ALL * (_SPARE * MOST / expected))


def of(texts: Sequence[Sequence[str]], below: int) -> np.ndarray:
    """Returns the hashes below a threshold of all passages of some texts, which are given as their units."""
    return of_numbered(texts, number_units(texts), np.ones(len(texts), bool), below)


def of_numbered(texts: Sequence[Sequence[str]], numbered: Numbered, chosen: np.ndarray, below: int) -> np.ndarray:
    """Returns the same of texts that are numbered.

    Args:
        chosen: bool [texts]: those whose passages are taken. Of others, what is shorter than a passage is.
    """
    # The same number for a unit in every process and release.
    ids = np.fromiter(map(zlib.crc32, map(str.encode, numbered.occurring)), np.uint64)
    found = gram_hashes(ids[numbered.numbers], PASSAGE)
    owners = numbered.owners()
    first = owners[: len(found)]
    taken = found < np.uint64(below)
    taken &= (first == owners[PASSAGE - 1 :][: len(found)]) & chosen[first]
    whole = np.fromiter(_whole(texts), np.uint64)
    return np.unique(np.concatenate([found[taken], whole[whole < np.uint64(below)]]))


def read(folder: Path) -> PassageSample | None:
    """Returns the sample that goes with a model; None where there is none. Raises ValueError where it is damaged."""
    path = folder / NAME
    if not path.exists():
        return None
    # It may come with a stranger's model.
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path}: is larger than any sample of passages")
    try:
        values = np.load(path, allow_pickle=False)
    except Exception as error:
        # What numpy raises of a damaged file depends on where it is damaged: EOFError, TokenError, MemoryError.
        raise ValueError(f"{path}: cannot be read: {error}") from None
    if not isinstance(values, np.ndarray) or values.dtype != np.uint64 or values.ndim != 1 or not len(values):
        raise ValueError(f"{path}: holds no sample of passages")
    return PassageSample(int(values[0]), values[1:])


def _whole(texts: Iterable[Sequence[str]]) -> Iterable[int]:
    for text in texts:
        if SHORTEST <= len(text) < PASSAGE:
            digest = hashlib.blake2b("\x1f".join(text).encode(), digest_size=8).digest()
            yield int.from_bytes(digest, "little")


def _cut(below: int, hashes: np.ndarray) -> PassageSample:
    hashes = hashes[hashes < np.uint64(below)]
    if len(hashes) > MOST:
        below = int(hashes[MOST])
        hashes = hashes[:MOST]
    return PassageSample(below, hashes)
