"""The rows of a stage, epoch after epoch, as one stream with a number for every row.

A step takes the next rows of the stream, across the end of an epoch too, so a resumed stage needs to know nothing but
its step, and what a step learns does not depend on the number of ranks or on the micro batch.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from slipway_core.resources.stage import Stage
from slipway_trainer.batches import order
from slipway_trainer.batches.packing import Bins
from slipway_trainer.step.errors import BadData

_KEPT_EPOCHS = 2


class RowStream:
    def __init__(self, documents: order.Documents, *, seed: int, max_length: int) -> None:
        """Raises BadData when an epoch has no row at all."""
        self.documents = documents
        self.seed = seed
        self.max_length = max_length
        weights = np.asarray(documents.weights)
        # With whole weights every epoch packs the same lengths, so all have as many rows as the first.
        self._uniform = bool(np.all(weights == np.floor(weights)))
        self._epochs: dict[int, Bins] = {}
        self._starts = [0]
        """First row of each epoch that is known."""
        if len(documents.lengths) == 0 or not weights.any():
            raise BadData("the training data holds no document to learn from")

    @property
    def end(self) -> int | None:
        """How many rows there are; None where there is no end."""
        return None

    def epoch(self, number: int) -> Bins:
        if number not in self._epochs:
            for old in sorted(self._epochs)[: len(self._epochs) - _KEPT_EPOCHS + 1]:
                del self._epochs[old]
            self._epochs[number] = self._packed(number)
        return self._epochs[number]

    def _packed(self, number: int) -> Bins:
        return order.epoch(self.documents, seed=self.seed, epoch=number, max_length=self.max_length)

    def passes(self, row: int) -> float:
        """Returns how often the data is gone through before a row."""
        epoch, index = self.locate(row)
        whole = self.first_row(epoch + 1) - self.first_row(epoch)
        return epoch + index / max(1, whole)

    def first_row(self, epoch: int) -> int:
        """Returns the number of the first row of an epoch, which is that of all rows before it."""
        if self._uniform:
            return epoch * len(self.epoch(0) if not self._epochs else next(iter(self._epochs.values())))
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + len(self.epoch(len(self._starts) - 1)))
        return self._starts[epoch]

    def locate(self, row: int) -> tuple[int, int]:
        """Returns the epoch of a row and its index in it."""
        if self._uniform:
            return divmod(row, self.first_row(1))
        while self._starts[-1] <= row:
            self.first_row(len(self._starts))
        epoch = bisect_right(self._starts, row) - 1
        return epoch, row - self._starts[epoch]

    def rows(self, start: int, stop: int) -> Bins:
        """Returns the rows `start` to `stop` of the stream."""
        parts: list[Bins] = []
        while start < stop:
            epoch, index = self.locate(start)
            bins = self.epoch(epoch)
            end = min(len(bins), index + stop - start)
            parts.append(bins.take(np.arange(index, end)))
            start += end - index
        return Bins.joined(parts)

    def tokens(self, bins: Bins) -> int:
        return int(np.asarray(self.documents.lengths)[bins.documents].sum())


@dataclass(frozen=True)
class Extent:
    """How far a stage goes."""

    rows: int
    steps: int
    sequences: int
    """Rows of a step; the last one may have fewer."""

    def window(self, step: int) -> tuple[int, int]:
        """Returns first and last row (not included) of step `step`, counted from 0."""
        return step * self.sequences, min((step + 1) * self.sequences, self.rows)


def sequences_of(stage: Stage) -> int:
    """Returns the packed rows of an optimizer step."""
    if stage.batch.sequences is not None:
        return stage.batch.sequences
    return max(1, (stage.batch.tokens or stage.max_length) // stage.max_length)


def extent(stage: Stage, stream: RowStream) -> Extent:
    """Returns the rows and steps of a stage; the last step of `tokens` is the one that reaches them."""
    sequences = sequences_of(stage)
    if (end := stream.end) is not None:
        return Extent(end, math.ceil(end / sequences), sequences)
    if stage.steps is not None:
        return Extent(stage.steps * sequences, stage.steps, sequences)
    if stage.tokens is not None:
        seen = steps = 0
        while seen < stage.tokens:
            seen += stream.tokens(stream.rows(steps * sequences, (steps + 1) * sequences))
            steps += 1
        return Extent(steps * sequences, steps, sequences)
    whole, part = divmod(stage.epochs or 1.0, 1.0)
    start = stream.first_row(int(whole))
    rows = start + round(part * (stream.first_row(int(whole) + 1) - start))
    rows = max(1, rows)
    return Extent(rows, math.ceil(rows / sequences), sequences)
