"""What one rank feeds the model in one optimizer step: its share of the rows of that step, in micro batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slipway_trainer.batches import collate, micro_rows
from slipway_trainer.batches.collate import Batch
from slipway_trainer.batches.row_stream import Extent, RowStream
from slipway_trainer.batches.shards import Shards
from slipway_trainer.training.process_group import Ranks


@dataclass(frozen=True)
class Window:
    """What one rank feeds the model in one optimizer step."""

    batches: list[Batch]
    """As many on every rank."""
    counted: int
    """What the loss is the mean of: learned tokens in them, or pairs of answers."""
    tokens: int
    rows: int
    """Of the stream, of all ranks, that are done after the step."""
    epoch: float
    """Passes over the data that are done after the step."""


@dataclass(frozen=True)
class Windows:
    """Those of a stage, by the number of the step."""

    shards: Shards
    stream: RowStream
    extent: Extent
    max_length: int
    micro_batch: int
    packed: bool
    """Whether documents share rows; else each is computed in one of its own."""
    pad_id: int
    ranks: Ranks
    reference: np.ndarray | None = None
    """float32 [pairs, 2], see `reference.of_split`; None where the loss has none."""

    def of_step(self, step: int) -> Window:
        """Returns this rank's part of a step: every rank has the same number of micro batches, if need be empty."""
        start, stop = self.extent.window(step)
        if start >= stop:
            return Window([], 0, 0, start, 0.0)
        rows = self.stream.rows(start, stop)
        parts = micro_rows.of_rank(
            rows,
            self.shards.lengths,
            rank=self.ranks.rank,
            world=self.ranks.world,
            micro_batch=self.micro_batch,
            max_length=self.max_length,
            packed=self.packed,
        )
        gpu = self.ranks.device.type == "cuda"
        # Rows of one width: what a GPU has allocated and compiled for one batch then serves for all.
        width = self.max_length if gpu and self.packed else None
        batches = [
            collate.batch(
                self.shards,
                part,
                range(len(part)),
                max_length=self.max_length,
                pad_id=self.pad_id,
                width=width,
                packed=self.packed,
                reference=self.reference,
            )
            for part in parts
        ]
        counted = sum(batch.counted for batch in batches)
        tokens = sum(int(self.shards.lengths[part.documents].sum()) for part in parts)
        if gpu:
            batches = [batch.pinned() for batch in batches]
        return Window(batches, counted, tokens, stop, self.stream.passes(stop))
