"""The loss on documents that are not learned, as the stage goes on."""

from __future__ import annotations

from typing import Any

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
    ) -> None:
        self.shards = shards
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

    def loss(self, engine: Any, device: torch.device, sum_over_ranks: Any) -> float:
        """Returns the mean negative log-likelihood of a target token in nats: one sum over one count."""
        engine.eval()
        total = torch.zeros((), dtype=torch.float64, device=device)
        targets = 0
        with torch.no_grad():
            for part in self.batches:
                batch = collate.batch(
                    self.shards, part, range(len(part)), max_length=self.max_length, pad_id=self.pad_id
                )
                targets += len(batch.targets)
                total += engine(batch.to(device)).double()
        engine.train()
        nats, count = sum_over_ranks([float(total), float(targets)])
        return nats / count if count else float("nan")
