"""The loss on documents that are not learned, as the stage goes on."""

from __future__ import annotations

from typing import Any

import torch

from slipway_trainer.training.micro_batches import MicroBatches


class ValidationSet:
    """Packed once; every rank scores its share of the rows."""

    def __init__(self, micro: MicroBatches) -> None:
        self.micro = micro
        self.parts = micro.of_all()

    def figures(self, engine: Any, sum_over_ranks: Any) -> list[float]:
        """Returns the figures of the stage's loss, each one sum over one count: the mean negative log-likelihood of a
        target token in nats; of preferences loss, margin and accuracy of a pair."""
        device = self.micro.ranks.device
        engine.eval()
        total = torch.zeros(1, dtype=torch.float64, device=device)
        counted = 0
        with torch.no_grad():
            for part in self.parts:
                batch = self.micro.batch(part)
                counted += batch.counted
                total = total + engine(batch.to(device)).double().reshape(-1)
        engine.train()
        *sums, count = sum_over_ranks([*total.tolist(), float(counted)])
        return [own / count if count else float("nan") for own in sums]
