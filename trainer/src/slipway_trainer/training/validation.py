"""The loss on documents that are not learned, as the stage goes on."""

from __future__ import annotations

from typing import Any

import torch

from slipway_trainer.batches import collate, packing
from slipway_trainer.batches.shards import Shards


class ValidationSet:
    """Packed once; every rank scores its share of the rows."""

    def __init__(
        self, shards: Shards, *, max_length: int, pad_id: int, micro_batch: int, rank: int, world: int
    ) -> None:
        self.shards = shards
        self.max_length = max_length
        self.pad_id = pad_id
        self.micro_batch = micro_batch
        self.bins = packing.pack(shards.lengths, max_length)
        self.mine = list(range(len(self.bins)))[rank::world]
        share = -(-len(self.bins) // world)
        self.batches = -(-share // micro_batch)
        """The same on all ranks: under ZeRO-3 a forward pass is something that all do together."""

    def loss(self, engine: Any, device: torch.device, sum_over_ranks: Any) -> float:
        """Returns the mean negative log-likelihood of a target token in nats: one sum over one count."""
        engine.eval()
        total = torch.zeros((), dtype=torch.float64)
        targets = 0
        with torch.no_grad():
            for index in range(self.batches):
                rows = self.mine[index * self.micro_batch : (index + 1) * self.micro_batch]
                batch = collate.batch(self.shards, self.bins, rows, max_length=self.max_length, pad_id=self.pad_id)
                targets += int((batch["labels"] != collate.IGNORED).sum())
                total += engine(**{name: tensor.to(device) for name, tensor in batch.items()}).double().cpu()
        engine.train()
        nats, count = sum_over_ranks([float(total), float(targets)])
        return nats / count if count else float("nan")
