"""What the rows of one file that are looked at become, and what that says of all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from slipway_core.protocol.preview import Amount, Fate, Lengths
from slipway_trainer.data.encoded import Counts, Encoded
from slipway_trainer.data.inputs import Input
from slipway_trainer.preview.sampled_file import SampledFile

_Z = 1.96
"""Half-width of a 95 % interval in standard errors."""
_EXAMPLES = 3
_BINS = 16
_FATES = (
    ("split", "longer than maxLength: split"),
    ("truncated", "longer than maxLength: cut"),
    ("dropped", "longer than maxLength: left out"),
    ("skipped", "no answer ends within maxLength: left out"),
    ("unanswered", "turns after the last answer: left out"),
    ("opened", "opened by the assistant, whose first turn is read and not learned"),
    ("left_out", "say the same as one before them: left out by data.deduplicate"),
    ("normalized", "changed by data.normalization"),
)
_LONG = ("split", "truncated", "dropped")
"""Of which the rows longer than maxLength are the examples."""


@dataclass
class Tally:
    """Of one file and one split."""

    source: Input
    """Of the plan."""
    file: SampledFile
    proportion: float | None = None
    """The source's share of a mixture, where it is asked for."""
    counts: Counts = field(default_factory=Counts)
    lengths: list[np.ndarray] = field(default_factory=list[np.ndarray])
    """int64 [documents]."""
    whole: list[np.ndarray] = field(default_factory=list[np.ndarray])
    """int64 [rows]."""
    long: list[str] = field(default_factory=list[str])
    """Rows longer than maxLength: file, line and tokens."""
    unlearned: int = 0
    """Documents of which no token is learned."""
    squares: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of what each row gives, squared: the sum over rows."""
    left_out: int = 0
    """Rows that say the same as others, and that the stage leaves out."""

    def add(self, encoded: Encoded, counts: Counts, max_length: int) -> None:
        self.counts.add(counts)
        self.lengths.append(encoded.lengths)
        self.whole.append(encoded.whole)
        self.long += [
            f"{self.file.name}:{line} ({tokens:,} tokens)"
            for line, tokens in zip(encoded.lines.tolist(), encoded.whole.tolist(), strict=True)
            if tokens > max_length and len(self.long) < _EXAMPLES
        ]
        if not len(encoded.lengths):
            return
        starts = np.cumsum(encoded.lengths) - encoded.lengths
        learned = encoded.lengths - 1
        if encoded.learn is not None:
            targets = encoded.learn.copy()
            targets[starts] = False  # The first token of a document is no target.
            learned = np.add.reduceat(targets, starts, dtype=np.int64)
            self.unlearned += int((learned == 0).sum())
        row = np.repeat(np.arange(len(encoded.became)), encoded.became)
        for name, amounts in (
            ("documents", np.ones(len(row))),
            ("tokens", encoded.lengths),
            ("learned_tokens", learned),
        ):
            self.squares[name] += float((np.bincount(row, amounts) ** 2).sum())

    @property
    def rows(self) -> int:
        """Of the whole file."""
        return self.file.rows

    @property
    def looked_at(self) -> int:
        return self.file.looked_at

    @property
    def scale(self) -> float:
        """Rows of the file for each that was looked at."""
        return self.rows / max(1, self.looked_at)

    @property
    def documents(self) -> np.ndarray:
        """int64 [documents]: their tokens."""
        return np.concatenate([np.zeros(0, np.int64), *self.lengths])

    @property
    def row_lengths(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int64), *self.whole])


def counts_of(tallies: Iterable[Tally]) -> Counts:
    """Returns what became of the rows that were looked at."""
    found = Counts()
    for one in tallies:
        found.add(one.counts)
    return found


def total_of(tallies: Iterable[Tally], name: Literal["documents", "tokens", "learned_tokens"]) -> Amount:
    """Returns how many of something all rows give together.

    Of each file the mean of the rows looked at, times its rows: the estimate of a stratified sample, with the variance
    of one drawn without replacement (Cochran, Sampling Techniques, 1977, 5.4). Rows that are set aside or left out give
    nothing, and count among those looked at.
    """
    value = variance = 0.0
    for tally in tallies:
        given, looked_at = getattr(tally.counts, name), tally.looked_at
        value += tally.scale * given
        if 1 < looked_at < tally.rows:
            spread = (tally.squares[name] - given**2 / looked_at) / (looked_at - 1)
            variance += tally.rows**2 * (1 - looked_at / tally.rows) * spread / looked_at
    return Amount(value=round(value), margin=round(_Z * variance**0.5))


def share_of(tallies: Sequence[Tally], name: str) -> Amount:
    """Returns how many rows there are of some kind that Counts counts, with the margin of a share of the rows."""
    value = variance = 0.0
    for tally in tallies:
        count = tally.left_out if name == "left_out" else getattr(tally.counts, name)
        value += tally.scale * count
        if tally.looked_at < tally.rows:
            share = min(1.0, (count + 1) / (tally.looked_at + 2))
            variance += tally.rows**2 * (1 - tally.looked_at / tally.rows) * share * (1 - share) / tally.looked_at
    return Amount(value=round(value), margin=round(_Z * variance**0.5))


def fates(tallies: Sequence[Tally]) -> list[Fate]:
    """Returns what becomes of rows that are not learned as they stand: what there is none of is left out."""
    found = []
    for name, what in _FATES:
        if not (amount := share_of(tallies, name)).value:
            continue
        if name in _LONG:
            examples = [place for tally in tallies for place in tally.long]
        else:
            examples = [place for tally in tallies for place in tally.counts.skipped_lines] if name == "skipped" else []
        found.append(Fate(what=what, rows=amount, examples=examples[:_EXAMPLES]))
    return found


def lengths(tallies: Sequence[Tally], max_length: int) -> Lengths | None:
    """Returns how long the rows are; None when there is none."""
    whole = np.concatenate([np.zeros(0, np.int64), *(tally.row_lengths for tally in tallies)])
    if not len(whole):
        return None
    scales = np.concatenate([np.full(len(tally.row_lengths), tally.scale) for tally in tallies])
    order = np.argsort(whole)
    reached = np.cumsum(scales[order]) / scales.sum()
    median, p90, p99 = (int(whole[order][np.searchsorted(reached, part - 1e-12)]) for part in (0.5, 0.9, 0.99))
    # With maxLength on it where that is near, and otherwise as far as nearly all rows reach.
    top = max_length if p99 < max_length <= 2 * p99 else p99
    wide = -(-max(top, 1) // _BINS)
    edges = list(range(0, _BINS * wide + 1, wide))
    if whole.max() > edges[-1]:
        edges.append(edges[-1] + wide)  # Apart, so that what is cut does not stand below maxLength.
    counts, _ = np.histogram(np.clip(whole - 1, 0, edges[-1] - 1), edges, weights=scales)
    return Lengths(
        edges=edges,
        counts=[round(float(count), 1) for count in counts],
        median=median,
        p90=p90,
        p99=p99,
        longest=int(whole.max()),
        above=round(float(scales[whole > max_length].sum() / scales.sum()), 6),
    )
