"""The loss of every objective: the summed negative log-likelihood of the learned tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from slipway_trainer.model import document_attention

IGNORED = -100
CACHED_ROWS = 256
"""Rows of logits that are worked on at once: few enough to stay in a CPU's cache between the passes."""

BY_ROWS = ("sdpa", "eager")
"""Attentions that tell the documents of a row apart by a mask."""


class NextTokenLoss(nn.Module):
    """A causal language model that returns its summed loss.

    The sum, not the mean: who accumulates micro batches, rows of ranks or a whole corpus divides once, by all targets.
    The output layer sees only the positions that predict a learned token: a chat row that learns a tenth of its
    tokens pays a tenth of the vocabulary's matrix product.
    """

    def __init__(self, model: nn.Module, *, attention: str, packed: bool = True, smoothing: float = 0.0) -> None:
        """
        Args:
            attention: the model's, as transformers calls it.
            packed: whether the documents of a row are told apart by their positions; else a row is one document.
            smoothing: share of each target that is spread over the vocabulary while training; in eval mode none is.
        """
        super().__init__()
        self._smoothing = smoothing
        self.model = model
        self._attention = attention
        self._packed = packed
        self._learned: torch.Tensor | None = None
        output = model.get_output_embeddings()  # type: ignore[operator]
        output.register_forward_pre_hook(self._keep_learned)

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the sum in nats, a float32 scalar.

        Args:
            input_ids, position_ids, labels: int64 [rows, width] as `collate.batch` makes them. Labels are not
                shifted; the first token of each document and the padding carry IGNORED.
        """
        inputs = model_inputs(input_ids, position_ids, attention=self._attention, packed=self._packed)
        # The first token of every document is ignored, so a shift across the end of a row predicts nothing.
        targets = labels.reshape(-1)[1:]
        learned = (targets != IGNORED).nonzero().flatten()
        self._learned = learned
        try:
            logits = self.model(**inputs).logits
        finally:
            self._learned = None
        # A view: indexing would make its backward pass write all logits once more, as zeros.
        smoothing = self._smoothing if self.training else 0.0
        return summed_nll(logits.view(-1, logits.shape[-1]), targets[learned], smoothing)

    def _keep_learned(self, _module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if self._learned is None:
            return args
        hidden = args[0]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._learned).unsqueeze(0), *args[1:])


def model_inputs(
    input_ids: torch.Tensor, position_ids: torch.Tensor, *, attention: str, packed: bool
) -> dict[str, Any]:
    """Returns what a model is called with, for tokens and positions int64 [rows, width].

    The positions of a row that is one document are left to the model: not every one takes them, and some count them
    another way. Padding stands at the end of such a row, where a causal model does not see it.
    """
    extra: dict[str, Any] = {}
    if not packed:
        if attention != document_attention.NAME:
            return {"input_ids": input_ids, "use_cache": False}
        position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    if attention not in BY_ROWS:
        # One row of all documents. A mask would pay for the square of its length.
        input_ids, position_ids = input_ids.reshape(1, -1), position_ids.reshape(1, -1)
    if attention == document_attention.NAME:
        extra["document_lengths"] = document_attention.lengths(position_ids[0])
    return {"input_ids": input_ids, "position_ids": position_ids, "use_cache": False, **extra}


def summed_nll(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Returns the summed negative log-likelihood of targets [n] under logits [n, vocabulary], a float32 scalar.

    With a smoothing e the target is 1 - e of the token and e of all words alike (Szegedy et al. 2016): the loss is
    logsumexp - (1 - e) · logit of the token - e · mean of the logits, its gradient softmax - (1 - e) · one-hot - e / V.

    The same as `cross_entropy(..., reduction="sum", label_smoothing=smoothing)` with a third of its memory and fewer
    passes over it: the gradient is made in the forward pass, in the place of the logits, which are not used again.
    """
    return _SummedNll.apply(logits.float(), targets, smoothing)  # type: ignore[return-value]


class _SummedNll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        total = logits.new_zeros(())
        wanted = ctx.needs_input_grad[0]
        for part, chosen in zip(logits.split(CACHED_ROWS), targets.split(CACHED_ROWS), strict=True):
            normalizer = part.logsumexp(-1, keepdim=True)
            picked = part.gather(1, chosen[:, None])
            expected = picked.lerp(part.mean(-1, keepdim=True), smoothing) if smoothing else picked
            total += (normalizer - expected).sum()
            if wanted:
                part.sub_(normalizer).exp_()
                if smoothing:
                    part.sub_(smoothing / part.shape[1])
                part.scatter_add_(1, chosen[:, None], torch.full_like(picked, smoothing - 1))
        ctx.gradient = logits if wanted else None
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.gradient.mul_(gradients[0]), None, None
