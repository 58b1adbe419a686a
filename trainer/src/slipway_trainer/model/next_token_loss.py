"""The loss of every objective: the summed negative log-likelihood of the learned tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from slipway_trainer.batches.collate import Batch
from slipway_trainer.model import logit_transform, token_rows
from slipway_trainer.model.model_inputs import model_inputs
from slipway_trainer.model.output_loss import OutputLoss, WholeLogitsLoss, is_linear


class NextTokenLoss(nn.Module):
    """A causal language model that returns its summed loss.

    The sum, not the mean: who accumulates micro batches, rows of ranks or a whole corpus divides once, by all targets.
    The output layer sees only the positions that predict a learned token: a chat row that learns a tenth of its
    tokens pays a tenth of the vocabulary's matrix product.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        attention: str,
        packed: bool = True,
        sharded: bool = False,
        smoothing: float = 0.0,
    ) -> None:
        """
        Args:
            attention: the model's, as transformers calls it.
            packed: whether the documents of a row are told apart by their positions; else a row is one document.
            sharded: whether weights will be there only while the module that has them is called (ZeRO-3).
            smoothing: share of each target that is spread over the vocabulary while training; in eval mode none is.
        """
        super().__init__()
        self.model = model
        self._attention = attention
        self._packed = packed
        self._smoothing = smoothing
        self._output = output_loss(model, attention, sharded=sharded)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Returns the sum in nats, a float32 scalar."""
        inputs = model_inputs(batch, attention=self._attention, packed=self._packed)
        smoothing = self._smoothing if self.training else 0.0
        return self._output.of(lambda: self.model(**inputs), batch.predicting, batch.targets, smoothing)


def output_loss(model: Any, attention: str, *, sharded: bool) -> OutputLoss | WholeLogitsLoss:
    """Returns the loss made in the output layer where that can be, else the one of all logits."""
    layer = model.get_output_embeddings()
    found = logit_transform.of_model(model, attention)
    transform = None if found is logit_transform.unchanged else found
    if found is None or (sharded and not is_linear(layer, transform)):
        return WholeLogitsLoss(layer)
    rows = token_rows.of_model(model)
    others = [] if rows is None or rows.of_output is None else [rows.of_output]
    return OutputLoss(layer, transform, others)
