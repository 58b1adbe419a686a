"""What one rank feeds the model: its share of some rows in micro batches, of a step or of all documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slipway_trainer.batches import collate, micro_rows, packing
from slipway_trainer.batches.collate import Batch
from slipway_trainer.batches.packing import Bins
from slipway_trainer.batches.row_stream import Extent, RowStream
from slipway_trainer.batches.shards import Shards
from slipway_trainer.training.process_group import Ranks


@dataclass(frozen=True)
class MicroBatches:
    """How documents become what one rank feeds the model at once."""

    shards: Shards
    max_length: int
    micro_batch: int
    """Packed rows at once."""
    packed: bool
    """Whether documents share rows; else each is computed in one of its own."""
    pad_id: int
    ranks: Ranks
    reference: np.ndarray | None = None
    """float32 [pairs, 2], see `reference.of_stage`; None where the loss has none."""

    def of_rows(self, rows: Bins) -> list[Bins]:
        """Returns the documents of this rank's share of some packed rows, a micro batch each: every rank has the same
        number of them, if need be empty."""
        return micro_rows.of_rank(
            rows,
            self.shards.lengths,
            rank=self.ranks.rank,
            world=self.ranks.world,
            micro_batch=self.micro_batch,
            max_length=self.max_length,
            packed=self.packed,
        )

    def of_all(self) -> list[Bins]:
        """Returns the same of all documents, each of them once."""
        return self.of_rows(packing.pack(self.shards.lengths, self.max_length))

    def batch(self, part: Bins) -> Batch:
        """Returns what the model is given of one; on its way to a GPU nothing waits."""
        gpu = self.ranks.device.type == "cuda"
        made = collate.batch(
            self.shards,
            part,
            range(len(part)),
            max_length=self.max_length,
            pad_id=self.pad_id,
            # Rows of one width: what a GPU has allocated and compiled for one batch then serves for all.
            width=self.max_length if gpu and self.packed else None,
            packed=self.packed,
            reference=self.reference,
        )
        return made.pinned() if gpu else made


@dataclass(frozen=True)
class Window:
    """What one rank feeds the model in one optimizer step."""

    batches: list[Batch]
    """As many on every rank."""
    counted: int
    """What the loss is the mean of: learned tokens in them, or pairs of answers."""
    tokens: int
    """Of the documents, without padding."""
    targets: int
    """Learned tokens."""
    squares: int
    """Sum of the squares of the documents' tokens."""
    rows: int
    """Of the stream, of all ranks, that are done after the step."""
    epoch: float
    """Passes over the data that are done after the step."""


@dataclass(frozen=True)
class Windows:
    """Those of a stage, by the number of the step."""

    micro: MicroBatches
    stream: RowStream
    extent: Extent

    def of_step(self, step: int) -> Window:
        """Returns this rank's part of a step."""
        start, stop = self.extent.window(step)
        if start >= stop:
            return Window([], 0, 0, 0, 0, start, 0.0)
        parts = self.micro.of_rows(self.stream.rows(start, stop))
        batches = [self.micro.batch(part) for part in parts]
        counted = sum(batch.counted for batch in batches)
        lengths = self.micro.shards.lengths
        tokens = sum(int(lengths[part.documents].sum()) for part in parts)
        return Window(
            batches,
            counted,
            tokens,
            targets=sum(len(batch.targets) for batch in batches),
            squares=sum(batch.squares for batch in batches),
            rows=stop,
            epoch=self.stream.passes(stop),
        )
