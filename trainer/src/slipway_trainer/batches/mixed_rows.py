"""The rows of a stage whose sources have shares of its tokens: windows of their order, packed, up to where it ends.

A window takes the part of an epoch. The last one is cut so that it has just the rows, or the tokens, that the stage is
to see: of the order of the mixture the stage then sees a beginning, and nothing behind it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from slipway_core.resources.stage import Stage
from slipway_trainer.batches import order
from slipway_trainer.batches.mixture import MixedOrder, Mixture, mean_length, pack_at_most
from slipway_trainer.batches.packing import Bins, pack
from slipway_trainer.batches.row_stream import RowStream, sequences_of

WINDOW_ROWS = 4096
"""Full rows of a window: enough that packing leaves next to no padding, few enough to be packed in a moment."""
WINDOW_DOCUMENTS = 1 << 20
"""About the most that are packed together: a row of 131,072 tokens may have thousands of them."""
FEWEST_ROWS = 64
"""Of a window of so many documents: the last row of each is not full."""


def of_stage(stage: Stage, documents: order.Documents, mixture: Mixture | None) -> RowStream:
    """Returns the rows of a stage.

    Args:
        stage: that has steps or tokens, where it has a mixture.
        documents: that it learns.
        mixture: the shares of its sources; None where documents have weights.

    Raises BadData where there are no documents.
    """
    if mixture is None:
        return RowStream(documents, seed=stage.seed, max_length=stage.max_length)
    return MixedRows(
        documents,
        mixture,
        seed=stage.seed,
        max_length=stage.max_length,
        rows=stage.steps * sequences_of(stage) if stage.steps is not None else None,
        tokens=stage.tokens,
    )


class MixedRows(RowStream):
    """A stream that has an end.

    Args:
        documents: those of all sources.
        mixture: of them.
        seed: of the stage.
        max_length: tokens of a row.
        rows: that the stage has; None where its tokens say where it ends.
        tokens: that it sees, to within a document.
        window_rows: full rows of a window, which has no more tokens than the stage sees.
        window_documents: of a window, about the most.
    """

    def __init__(
        self,
        documents: order.Documents,
        mixture: Mixture,
        *,
        seed: int,
        max_length: int,
        rows: int | None = None,
        tokens: int | None = None,
        window_rows: int = WINDOW_ROWS,
        window_documents: int = WINDOW_DOCUMENTS,
    ) -> None:
        super().__init__(documents, seed=seed, max_length=max_length)
        assert (rows is None) != (tokens is None)
        self._uniform = False
        self._rows, self._tokens = rows, tokens
        self._tokens_before = [0]
        """Of each window that is known."""
        for rows_of_window, tokens_of_window in mixture.windows:
            self._starts.append(self._starts[-1] + rows_of_window)
            self._tokens_before.append(self._tokens_before[-1] + tokens_of_window)
        self._known = len(mixture.windows)
        self._order = MixedOrder(
            documents.lengths,
            mixture.sources,
            seed=seed,
            window_tokens=self._window_tokens(mixture, window_rows, window_documents),
        )

    def _window_tokens(self, mixture: Mixture, window_rows: int, window_documents: int) -> int:
        """No more than the stage sees, nor more documents than can be packed in a moment; a window has at least one."""
        lengths = np.asarray(self.documents.lengths)
        seen = self._tokens if self._rows is None else self._rows * self.max_length
        assert seen is not None
        at_once = max(int(window_documents * mean_length(lengths, mixture.sources)), FEWEST_ROWS * self.max_length)
        least = int(lengths.max()) * len(mixture.sources)
        return max(least, min(window_rows * self.max_length, seen, at_once))

    @cached_property
    def end(self) -> int:
        if self._rows is not None:
            return self._rows
        return self.first_row(self._known or sum(1 for _ in self.windows()))

    def windows(self) -> Iterator[Bins]:
        """Yields the rows of each window, up to the end of the stage."""
        for number in itertools.count():
            bins = self.epoch(number)
            if not len(bins):
                return
            yield bins

    def locate(self, row: int) -> tuple[int, int]:
        if row >= self.end:
            raise IndexError(f"row {row} of a stage that has {self.end}")
        return super().locate(row)

    def passes(self, row: int) -> float:
        """Returns about how often the data is gone through before a row, were all sources seen as often."""
        return row * self.max_length / int(np.asarray(self.documents.lengths, np.int64).sum())

    def _packed(self, number: int) -> Bins:
        """Returns the rows of a window; none behind the end of the stage."""
        documents = self._order.window(number)
        lengths = np.asarray(self.documents.lengths, np.int64)[documents]
        if self._rows is not None:
            bins = pack_at_most(lengths, self._rows - self.first_row(number), self.max_length)
        else:
            bins = pack(lengths[: self._wanted(number, lengths)], self.max_length)
        return order.shuffled_rows(Bins(bins.offsets, documents[bins.documents]), self.seed, number)

    def _wanted(self, number: int, lengths: np.ndarray) -> int:
        """Returns how many documents of a window the stage sees, of which the last reaches its tokens."""
        assert self._tokens is not None
        while len(self._tokens_before) <= number:
            before = self._order.window(len(self._tokens_before) - 1)
            self._tokens_before.append(self._tokens_before[-1] + int(np.asarray(self.documents.lengths)[before].sum()))
        left = self._tokens - self._tokens_before[number]
        if left <= 0:
            return 0
        return int(np.searchsorted(np.cumsum(lengths), left)) + 1
