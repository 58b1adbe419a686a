"""The loss of every objective: the summed negative log-likelihood of the learned tokens."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from slipway_trainer import document_attention

IGNORED = -100


class NextTokenLoss(nn.Module):
    """A causal language model that returns its summed loss.

    The sum, not the mean: who accumulates micro batches, rows of ranks or a whole corpus divides once, by all targets.
    The output layer sees only the positions that predict a learned token: a chat row that learns a tenth of its
    tokens pays a tenth of the vocabulary's matrix product.
    """

    def __init__(self, model: nn.Module, *, attention: str) -> None:
        super().__init__()
        self.model = model
        self._attention = attention
        self._learned: torch.Tensor | None = None
        output = model.get_output_embeddings()  # type: ignore[operator]
        output.register_forward_pre_hook(self._keep_learned)

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the sum in nats, a float32 scalar.

        Args:
            input_ids, position_ids, labels: int64 [rows, width] as `collate.batch` makes them. Labels are not
                shifted; the first token of each document and the padding carry IGNORED.
        """
        extra: dict[str, object] = {}
        if self._attention != "sdpa":
            # One row of all documents. sdpa with a mask would pay for the square of its length.
            input_ids, position_ids = input_ids.view(1, -1), position_ids.view(1, -1)
        if self._attention == document_attention.NAME:
            extra["document_lengths"] = document_attention.lengths(position_ids[0])
        # The first token of every document is ignored, so a shift across the end of a row predicts nothing.
        targets = labels.reshape(-1)[1:]
        learned = (targets != IGNORED).nonzero().flatten()
        self._learned = learned
        try:
            logits = self.model(input_ids=input_ids, position_ids=position_ids, use_cache=False, **extra).logits
        finally:
            self._learned = None
        return functional.cross_entropy(logits[0].float(), targets[learned], reduction="sum")

    def _keep_learned(self, _module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if self._learned is None:
            return args
        hidden = args[0]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._learned).unsqueeze(0), *args[1:])
