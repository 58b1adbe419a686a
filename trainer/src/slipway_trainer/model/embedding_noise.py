"""Noise on the embedded tokens while training: NEFTune (Jain et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from slipway_trainer.batches.collate import Batch


def attach(loss: nn.Module, alpha: float) -> None:
    """Adds noise to what the embedding of a language model gives, in every training pass from now on.

    Uniform between plus and minus alpha / sqrt(length × hidden size) (equation 1 of the paper). The length is that of
    the token's own document: it is as noisy in a packed row as in one of its own, and padding counts for nothing.

    Args:
        loss: called with a batch; has the language model as `model`.
    """
    noise = _Noise(alpha)
    loss.register_forward_pre_hook(noise.begin)
    loss.register_forward_hook(noise.end, always_call=True)
    loss.model.get_input_embeddings().register_forward_hook(noise.add)  # type: ignore[operator, union-attr]


class _Noise:
    """What goes from the loss's pass to the embedding's within it."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.batch: Batch | None = None
        """Of a training pass that is under way."""

    def begin(self, loss: nn.Module, given: tuple[Batch]) -> None:
        self.batch = given[0] if loss.training else None

    def end(self, *_: Any) -> None:
        self.batch = None

    def add(self, _embedding: nn.Module, _args: tuple[Any, ...], embedded: torch.Tensor) -> torch.Tensor:
        """Returns embedded tokens [..., hidden] of as many tokens as the batch has, with noise."""
        if self.batch is None:
            return embedded
        lengths = document_lengths(self.batch).to(embedded.device, non_blocking=True).view(embedded.shape[:-1])
        most = self.alpha / (lengths * embedded.shape[-1]).sqrt()
        # Drawn in float32: in half precision it would have a few hundred values.
        drawn = torch.empty_like(embedded, dtype=torch.float32).uniform_(-1, 1)
        return embedded + (drawn * most.unsqueeze(-1)).to(embedded.dtype)


def document_lengths(batch: Batch) -> torch.Tensor:
    """Returns for every token how many its document has, int64 [rows, width] on the host; padding is a document."""
    lengths = torch.tensor(batch.lengths)
    return lengths.repeat_interleave(lengths).view_as(batch.input_ids)
