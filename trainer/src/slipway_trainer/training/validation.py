"""The loss on documents that are not learned, as the stage goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from slipway_trainer.batches import collate, micro_rows, packing
from slipway_trainer.batches.shards import Shards


class ValidationSet:
    """Packed once; every rank scores its share of the rows."""

    def __init__(
        self,
        shards: Shards,
        *,
        max_length: int,
        pad_id: int,
        micro_batch: int,
        packed: bool,
        rank: int,
        world: int,
        reference: np.ndarray | None = None,
    ) -> None:
        self.shards = shards
        self.packed = packed
        self.reference = reference
        self.max_length = max_length
        self.pad_id = pad_id
        self.batches = micro_rows.of_rank(
            packing.pack(shards.lengths, max_length),
            shards.lengths,
            rank=rank,
            world=world,
            micro_batch=micro_batch,
            max_length=max_length,
            packed=packed,
        )

    def figures(self, engine: Any, device: torch.device, sum_over_ranks: Any) -> list[float]:
        """Returns the figures of the stage's loss, each one sum over one count: the mean negative log-likelihood of a
        target token in nats; of preferences loss, margin and accuracy of a pair."""
        engine.eval()
        total = torch.zeros(1, dtype=torch.float64, device=device)
        counted = 0
        with torch.no_grad():
            for part in self.batches:
                batch = collate.batch(
                    self.shards,
                    part,
                    range(len(part)),
                    max_length=self.max_length,
                    pad_id=self.pad_id,
                    packed=self.packed,
                    reference=self.reference,
                )
                counted += batch.counted
                total = total + engine(batch.to(device)).double().reshape(-1)
        engine.train()
        *sums, count = sum_over_ranks([*total.tolist(), float(counted)])
        return [own / count if count else float("nan") for own in sums]
