"""Held-out text that stands in the training data (invariant C), found exactly and nearly.

Texts are compared as their units (`text.units`): words, and single characters of scripts without spaces,
after NFKC, case folding and the removal of everything but letters and digits. Four rules find an overlap:

- equal: a document, or a turn of the assistant, has the same units, joined.
- contained: the held-out text has 8 units or more, and a document or a whole conversation holds at least half of its
  5-grams of units, and at least 8 of them (all of fewer).
- similar: the held-out text has 4 to 40 units, and a document or a turn of the assistant of at most 66 has 2-grams
  whose Jaccard index with its own is 0.6 or more.
- part: a document or a turn of the assistant has 32 5-grams or more, and 80 % of them stand in the held-out text.

The index holds the grams of the held-out text alone, and the training data streams past it: an exact count
decides, not a sketch such as MinHash, so the only errors are those of the rules. If every unit was replaced
with probability p, a 5-gram is whole with (1 - p)^5: of long texts `contained` finds all up to p = 7 %, half
at 13 %, none from 20 % on. In shorter texts `similar` finds one replaced unit from 9 units on and two from 17
on. What none of them finds: a paraphrase, a translation, the other Chinese script, and a text of fewer than 8
units inside a longer one (a quotation that short is no evidence). What they find that one may not mean: texts
that are the same form filled in twice, and
texts that share a licence: `boilerplate` says when such a one is looked for again, without what many documents have.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import numpy as np

from slipway_trainer.data.boilerplate import Sightings, Verdict, judge
from slipway_trainer.data.grams import Numbered, gram_hashes, number_units
from slipway_trainer.data.text import units

LONG_GRAM, SHORT_GRAM = 5, 2
CONTAINED_FROM_UNITS = 8
CONTAINED_SHARE, CONTAINED_GRAMS = 0.5, 8
SIMILAR_UNITS, SIMILAR_LONGEST_OTHER = range(4, 41), 66
SIMILAR_JACCARD = 0.6
PART_GRAMS, PART_SHARE = 32, 0.8
COMMON_GRAM = 64
"""Held-out texts that share a gram above which it is boilerplate: indexed only where a text has nothing
rarer."""
_FILTER_BITS = 22

Rule = Literal["equal", "contained", "similar", "part"]
_Needed = Callable[[int], int]
"""From a text's number of grams to how many of them an overlap shares at least."""


@dataclass(frozen=True)
class Passage:
    """A piece of training data."""

    line: int
    units: Sequence[str]
    whole: bool
    """A document, or one turn of the assistant: may be equal, similar, or a part."""
    holder: bool
    """A document, or a whole conversation: may contain a held-out text."""
    key: int = 0
    """Of the row that it stands in, 64 bits: equal for rows that say the same."""


@dataclass(frozen=True)
class Match:
    held: int
    """Index of the held-out text."""
    line: int
    """Line of the training data."""
    rule: Rule
    share: float
    """Share of grams that agree, as the rule counts them."""


@dataclass(frozen=True)
class Found:
    matches: list[Match]
    """Each pair of line and held-out text once, in order."""
    sightings: Sightings
    """Of the held-out texts' 5-grams."""


class Index:
    """The held-out texts, ready to be looked for."""

    def __init__(self, held: Sequence[str], without: Mapping[int, Verdict] | None = None) -> None:
        """
        Args:
            without: the held-out texts that are looked for, and which of their 5-grams count for nothing. All texts,
                whole, when None.
        """
        texts = [units(text) for text in held]
        self._texts = texts
        self._count = len(texts)
        self._equal: dict[str, list[int]] = defaultdict(list)
        chosen = {n: text for n, text in enumerate(texts) if without is None or n in without}
        for number, text in chosen.items():
            self._equal["".join(text)].append(number)
        self._ids = {unit: number for number, unit in enumerate(sorted({u for text in texts for u in text}))}
        long = {n: text for n, text in chosen.items() if len(text) >= CONTAINED_FROM_UNITS}
        short = {n: text for n, text in chosen.items() if len(text) in SIMILAR_UNITS}
        common = {n: self._ordered(n)[verdict.common] for n, verdict in (without or {}).items()}
        self._long = _Grams(
            {n: self._grams(text, LONG_GRAM) for n, text in long.items()}, _contained_grams, counted=True, common=common
        )
        self._short = _Grams({n: self._grams(text, SHORT_GRAM) for n, text in short.items()}, _similar_grams)

    def find(self, passages: Sequence[Passage], numbered: Numbered | None = None) -> Found:
        """Returns every overlap of these passages, and what of the held-out texts stands in them at all.

        Args:
            numbered: their units, where they were numbered for something else already.
        """
        if not self._count or not passages:
            return Found([], Sightings.nothing())
        numbered = numbered or number_units([passage.units for passage in passages])
        # Units that no held-out text has count as well: a passage has as many grams as it has.
        known = np.fromiter(map(self._ids.get, numbered.occurring, repeat(-1)), np.int64)
        ids = np.where(known < 0, len(self._ids) + np.arange(len(known)), known).astype(np.uint64)
        text = _Units(ids[numbered.numbers], numbered.lengths)
        hits = self._long.hits(text, LONG_GRAM)
        found: dict[tuple[int, int], Match] = {}
        for match in (*self._equals(passages), *self._longs(passages, text, hits), *self._shorts(passages, text)):
            found.setdefault((match.line, match.held), match)
        return Found([found[key] for key in sorted(found)], _sightings(passages, hits))

    @property
    def grams(self) -> int:
        """Of how many grams sightings are counted."""
        return len(self._long)

    def without_boilerplate(self, marks: np.ndarray, numbers: Iterable[int]) -> dict[int, Verdict]:
        """Returns those of these held-out texts that are to be looked for again, without what of them is common.

        Args:
            marks: uint64 [grams]: the sightings of all training data together.
        """
        found: dict[int, Verdict] = {}
        for number in numbers:
            if len(self._texts[number]) >= CONTAINED_FROM_UNITS:
                verdict = judge(marks[self._long.places(self._ordered(number))], LONG_GRAM)
                if verdict is not None:
                    found[number] = verdict
        return found

    def _equals(self, passages: Iterable[Passage]) -> Iterator[Match]:
        for passage in passages:
            if passage.whole:
                for held in self._equal.get("".join(passage.units), ()):
                    yield Match(held, passage.line, "equal", 1.0)

    def _longs(self, passages: Sequence[Passage], text: _Units, hits: _Hits) -> Iterator[Match]:
        for number, held, shared, own in self._long.candidates(text, LONG_GRAM, hits):
            passage, theirs = passages[number], self._long.sizes[held]
            if passage.holder and shared >= _contained_grams(theirs):
                yield Match(held, passage.line, "contained", shared / theirs)
            elif passage.whole and own >= PART_GRAMS and shared >= PART_SHARE * own:
                yield Match(held, passage.line, "part", shared / own)

    def _shorts(self, passages: Sequence[Passage], text: _Units) -> Iterator[Match]:
        lengths = text.lengths
        fitting = (lengths >= SIMILAR_UNITS[0]) & (lengths <= SIMILAR_LONGEST_OTHER)
        hits = self._short.hits(text, SHORT_GRAM, fitting)
        for number, held, shared, own in self._short.candidates(text, SHORT_GRAM, hits):
            jaccard = shared / (own + self._short.sizes[held] - shared)
            if passages[number].whole and jaccard >= SIMILAR_JACCARD:
                yield Match(held, passages[number].line, "similar", jaccard)

    def _ordered(self, number: int) -> np.ndarray:
        """5-grams of a held-out text, in its order."""
        return gram_hashes(np.array([self._ids[unit] for unit in self._texts[number]], np.uint64), LONG_GRAM)

    def _grams(self, text: Sequence[str], size: int) -> np.ndarray:
        ids = np.array([self._ids[unit] for unit in text], np.uint64)
        return np.unique(gram_hashes(ids, size))


@dataclass(frozen=True)
class _Units:
    """Passages one after the other, as ids of units."""

    ids: np.ndarray
    lengths: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths


@dataclass(frozen=True)
class _Hits:
    """The grams of passages that held-out texts have, each pair of passage and gram once."""

    hashes: np.ndarray
    """All grams of all passages."""
    passages: np.ndarray
    grams: np.ndarray
    """Places in the index."""


class _Grams:
    """An inverted index from grams to held-out texts.

    A text that shares `needed` of its n grams shares one of any n - needed + 1 of them (the prefix filter of
    set similarity joins; Chaudhuri, Ganti, Kaushik, 2006), so it is enough to index that many, the rarest.
    Grams that few texts have are indexed as well: the more of a text is indexed, the fewer pairs need an
    exact count.
    """

    def __init__(
        self,
        texts: dict[int, np.ndarray],
        needed: _Needed,
        *,
        counted: bool = False,
        common: Mapping[int, np.ndarray] | None = None,
    ) -> None:
        """
        Args:
            counted: whether all grams have a place, also those that are in no text's part of the index.
            common: grams of a text that count for nothing, in it and in what it is compared with.
        """
        self._common = {number: np.unique(grams) for number, grams in (common or {}).items()}
        texts = {n: np.setdiff1d(grams, self._common[n]) if n in self._common else grams for n, grams in texts.items()}
        self._texts = texts
        self.sizes = {number: len(grams) for number, grams in texts.items()}
        frequency = Counter(gram for grams in texts.values() for gram in grams.tolist())
        entries: list[tuple[int, int]] = []
        self._unindexed = np.zeros(max(texts, default=-1) + 1, np.int64)
        self._needed = np.zeros_like(self._unindexed)
        for number, grams in texts.items():
            rarest = sorted(grams.tolist(), key=lambda gram: (frequency[gram], gram))
            self._needed[number] = needed(len(rarest))
            prefix = len(rarest) - int(self._needed[number]) + 1
            indexed = [g for place, g in enumerate(rarest) if place < prefix or frequency[g] <= COMMON_GRAM]
            self._unindexed[number] = len(rarest) - len(indexed)
            entries += [(gram, number) for gram in indexed]
        entries.sort()
        grams = np.array([gram for gram, _ in entries], np.uint64)
        self._grams = np.array(sorted(frequency), np.uint64) if counted else np.unique(grams)
        self._starts = np.append(np.searchsorted(grams, self._grams), len(grams))
        self._held = np.array([number for _, number in entries], np.int64)
        # Nearly all grams of the training data are not in the index: one look into a small table says so.
        self._filter = np.zeros(1 << _FILTER_BITS, bool)
        self._filter[_filter_place(self._grams)] = True

    def hits(self, text: _Units, size: int, chosen: np.ndarray | None = None) -> _Hits:
        """Returns which grams of these passages the index has; of the chosen passages when that is given."""
        nothing = np.zeros(0, np.int64)
        if not len(self._grams) or len(text.ids) < size:
            return _Hits(np.zeros(0, np.uint64), nothing, nothing)
        hashes = gram_hashes(text.ids, size)
        owner = np.repeat(np.arange(len(text.lengths)), text.lengths)
        inside = owner[: len(hashes)] == owner[size - 1 :]
        if chosen is not None:
            inside &= chosen[owner[: len(hashes)]]
        places = np.flatnonzero(inside & self._filter[_filter_place(hashes)])
        gram = np.searchsorted(self._grams, hashes[places])
        gram[gram == len(self._grams)] = 0
        hit = self._grams[gram] == hashes[places]
        pairs = np.unique(owner[places[hit]] * len(self._grams) + gram[hit])
        return _Hits(hashes, *np.divmod(pairs, len(self._grams)))

    def __len__(self) -> int:
        return len(self._grams)

    def places(self, grams: np.ndarray) -> np.ndarray:
        """Returns the places of grams that are all in the index."""
        return np.searchsorted(self._grams, grams)

    def candidates(self, text: _Units, size: int, hits: _Hits) -> Iterator[tuple[int, int, int, int]]:
        """Yields passage, held-out text, number of grams they share, and number of grams of the passage."""
        gram = hits.grams
        counts = self._starts[gram + 1] - self._starts[gram]
        firsts = np.repeat(self._starts[gram] - (np.cumsum(counts) - counts), counts)
        held = self._held[firsts + np.arange(counts.sum())]
        keys, shared = np.unique(np.repeat(hits.passages, counts) * len(self._needed) + held, return_counts=True)
        if len(keys):
            yield from self._verified(text, size, hits.hashes, keys, shared)

    def _verified(
        self, text: _Units, size: int, hashes: np.ndarray, keys: np.ndarray, shared: np.ndarray
    ) -> Iterator[tuple[int, int, int, int]]:
        passages, held = np.divmod(keys, len(self._needed))
        possible = shared + self._unindexed[held]
        starts, lengths = text.starts, text.lengths
        bounds = np.flatnonzero(np.diff(passages, prepend=-1, append=-1))
        for first, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            number, others, most = int(passages[first]), held[first:end], possible[first:end]
            enough = most >= self._needed[others]
            if not enough.any() and (lengths[number] - size + 1 < PART_GRAMS or most.max() < PART_SHARE * PART_GRAMS):
                continue
            start = starts[number]
            own = np.unique(hashes[start : start + lengths[number] - size + 1])
            if len(own) >= PART_GRAMS:
                enough |= most >= PART_SHARE * (PART_GRAMS if self._common else len(own))
            for other in others[enough].tolist():
                shared_grams = np.intersect1d(own, self._texts[other], assume_unique=True)
                yield number, other, len(shared_grams), len(own) - self._discounted(own, other)

    def _discounted(self, own: np.ndarray, held: int) -> int:
        common = self._common.get(held)
        return 0 if common is None else len(np.intersect1d(own, common, assume_unique=True))


def _sightings(passages: Sequence[Passage], hits: _Hits) -> Sightings:
    """Returns in which rows the grams stand that are hit."""
    holders = np.array([passage.holder for passage in passages])
    keys = np.array([passage.key for passage in passages], np.uint64)
    counted = holders[hits.passages]
    return Sightings.of(hits.grams[counted], keys[hits.passages[counted]])


def _contained_grams(grams: int) -> int:
    return max(math.ceil(CONTAINED_SHARE * grams), min(grams, CONTAINED_GRAMS))


def _similar_grams(grams: int) -> int:
    return max(1, math.ceil(SIMILAR_JACCARD * grams))


def _filter_place(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)
