"""The loss made inside a model's output layer, some tokens at a time, so that all their logits never are.

The logits of 4,096 tokens over 152,000 words take 2.3 GiB in float32, once more as their gradient. Here a few hundred
tokens go through the output layer, give their loss and at once their part of the gradients, and make room for the next
ones: what is held is the gradient of the hidden states and of the layer's weights, whatever the number of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from slipway_trainer.model.logit_transform import Transform

CACHED_ROWS = 256
"""Tokens whose logits are worked on at once on a CPU: few enough to stay in its cache between the passes."""
FEWEST_ROWS = 128
"""Fewer would go through the layer's weights and their gradient too often: with 64 it took a quarter longer."""
CPU_LOGITS, GPU_LOGITS = 1 << 24, 1 << 27
"""Logits of float32 that are held at once: 64 and 512 MiB, unless the fewest tokens have more."""

Judge = Callable[[torch.Tensor], torch.Tensor]
"""From the negative log-likelihood of each target (float32 [n], in nats) to figures (float32 [k]): the first is the
loss, which autograd knows, the others are told and not learned from."""


@dataclass
class _Asked:
    """What is to be made of the next hidden states."""

    predicting: torch.Tensor
    targets: torch.Tensor
    smoothing: float
    judge: Judge | None
    loss: torch.Tensor | None = None


class OutputLoss:
    """A model's output layer, which gives the loss in place of logits while it is asked to."""

    def __init__(self, layer: nn.Module, transform: Transform | None, others: Sequence[nn.Parameter] = ()) -> None:
        """
        Args:
            transform: what the model makes of the layer's logits, elementwise; None where it leaves them as they are.
            others: weights that the layer computes with and has not itself.
        """
        self.layer: Any = layer
        self._forward: Callable[[torch.Tensor], torch.Tensor] = layer.forward
        self.is_linear = is_linear(layer, transform)
        self._transform = transform
        self._others = list(others)
        self._asked: _Asked | None = None
        layer.forward = self._loss_or_logits  # type: ignore[method-assign]

    @property
    def vocabulary(self) -> int:
        """Rows of its weight."""
        return self.layer.weight.shape[0]

    def of(
        self,
        run: Callable[[], Any],
        predicting: torch.Tensor,
        targets: torch.Tensor,
        smoothing: float = 0.0,
        judge: Judge | None = None,
    ) -> torch.Tensor:
        """Returns the summed negative log-likelihood in nats, a float32 scalar, of one run of the model; with a judge
        the figures that it makes.

        Args:
            run: runs the model, which calls the layer once.
            predicting: int64 [n], places in the layer's input, all rows end to end.
            targets: int64 [n], the token that is to be predicted at each.
            smoothing: share of a target that is spread over the vocabulary, see `summed_nll_`.
            judge: makes another loss of them than their sum; without smoothing.
        """
        self._asked = asked = _Asked(predicting, targets, smoothing, judge)
        try:
            # Where weights are there only while a module is called (ZeRO-3), what a module returns is changed on its
            # way out by hooks that came before this one.
            with _listening(self.layer, asked):
                run()
        finally:
            self._asked = None
        assert asked.loss is not None, "the model did not call its output layer"
        return asked.loss.reshape(() if judge is None else -1)

    def _loss_or_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        if self._asked is None:
            return self._forward(hidden)
        rows = hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._asked.predicting)
        weights = [weight for weight in (*self.layer.parameters(), *self._others) if weight.requires_grad]
        asked = self._asked
        wanted = torch.is_grad_enabled()
        loss = _Summed.apply(self, wanted, asked.smoothing, asked.judge, asked.targets, rows, *weights)
        # A model expects [rows, width, vocabulary].
        return loss.reshape(1, 1, -1)  # type: ignore[union-attr]

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns [n, vocabulary] of hidden states [n, hidden]."""
        found = self._forward(rows)
        return found if self._transform is None else self._transform(found)


def is_linear(layer: nn.Module, transform: Transform | None) -> bool:
    """Whether logits are a matrix product with the layer's weight and no more. One that computes with more than its own
    weight has a forward of its own."""
    return type(layer) is nn.Linear and "forward" not in layer.__dict__ and transform is None


class WholeLogitsLoss:
    """The same where that cannot be: the logits of all learned tokens are there at once, as the model returns them."""

    def __init__(self, layer: nn.Module) -> None:
        self._predicting: torch.Tensor | None = None
        layer.register_forward_pre_hook(self._keep_predicting)

    def of(
        self,
        run: Callable[[], Any],
        predicting: torch.Tensor,
        targets: torch.Tensor,
        smoothing: float = 0.0,
        judge: Judge | None = None,
    ) -> torch.Tensor:
        """As `OutputLoss.of`."""
        self._predicting = predicting
        try:
            logits: torch.Tensor = run().logits
        finally:
            self._predicting = None
        # A view: indexing would make its backward pass write all logits once more, as zeros.
        logits = logits.view(-1, logits.shape[-1])
        if judge is not None:
            return judge(nn.functional.cross_entropy(logits.float(), targets, reduction="none"))
        return summed_nll(logits, targets, smoothing)

    def _keep_predicting(self, _layer: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if self._predicting is None:
            return args
        hidden = args[0]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._predicting).unsqueeze(0), *args[1:])


@contextmanager
def _listening(layer: nn.Module, asked: _Asked) -> Iterator[None]:
    def keep(_layer: nn.Module, _given: Any, found: torch.Tensor) -> None:
        asked.loss = found

    handle = layer.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


class _Summed(torch.autograd.Function):
    """Makes the gradients together with the loss; the backward pass only scales them.

    What a judge makes of the tokens is known only when all of them have gone through the layer. Their gradients are
    then made in a second turn, each by what it counts there: the layer's matrix product is done twice, the model's own
    work once, and no more logits are held than without a judge.
    """

    @staticmethod
    def forward(
        ctx: Any,
        layer: OutputLoss,
        wanted: bool,
        smoothing: float,
        judge: Judge | None,
        targets: torch.Tensor,
        hidden: torch.Tensor,
        *weights: torch.Tensor,
    ) -> torch.Tensor:
        """Takes hidden [n, hidden] and targets [n]; `wanted` says whether gradients will be asked for."""
        figures, counts = None, None
        if judge is not None:
            figures, counts = _judged(layer, judge, hidden, targets, wanted=wanted)
            if not wanted:
                return figures
        total = hidden.new_zeros((), dtype=torch.float32)
        # In float32, since those of weights are sums over all parts.
        of_weights = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights if wanted]
        # Made before the parts: between theirs, what stays would leave holes in the memory that is free.
        of_hidden = torch.empty_like(hidden) if wanted else hidden
        rows = rows_at_once(layer.vocabulary, hidden.device)
        parts = zip(hidden.split(rows), targets.split(rows), of_hidden.split(rows), strict=True)
        for number, (part, chosen, found) in enumerate(parts):
            if wanted:
                times = None if counts is None else counts[number * rows : (number + 1) * rows, None]
                total += _learn(layer, part, chosen, smoothing, times, found, weights, of_weights)
            else:
                total += summed_nll_(layer.logits(part).float(), chosen, smoothing, gradient=False)
        ctx.gradients = (of_hidden, *of_weights) if wanted else None
        ctx.dtypes = [tensor.dtype for tensor in (hidden, *weights)]
        return total if figures is None else figures

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Scales what was made, in its place: a loss goes through its backward pass once."""
        made, ctx.gradients = ctx.gradients, None
        of_loss = gradients[0].reshape(-1)[0]
        scaled = [own.mul_(of_loss).to(dtype) for own, dtype in zip(made, ctx.dtypes, strict=True)]
        return None, None, None, None, None, *scaled


def _judged(
    layer: OutputLoss, judge: Judge, hidden: torch.Tensor, targets: torch.Tensor, *, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns the figures of a judge, and what its loss grows by with that of each target (float32 [n]), if wanted."""
    rows = rows_at_once(layer.vocabulary, hidden.device)
    nll = torch.cat(
        [
            nn.functional.cross_entropy(layer.logits(part).float(), chosen, reduction="none")
            for part, chosen in zip(hidden.split(rows), targets.split(rows), strict=True)
        ]
    )
    if not wanted:
        return judge(nll), None
    with torch.enable_grad():
        figures = judge(nll.requires_grad_())
        (counts,) = torch.autograd.grad(figures[0], nll)
    return figures.detach(), counts


def _learn(
    layer: OutputLoss,
    rows: torch.Tensor,
    targets: torch.Tensor,
    smoothing: float,
    times: torch.Tensor | None,
    of_rows: torch.Tensor,
    weights: Sequence[torch.Tensor],
    of_weights: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Returns the loss of some rows, after writing their gradient, each so many times (float32 [n, 1]; once when None),
    and adding to that of the weights."""
    plain = layer.is_linear
    with torch.set_grad_enabled(not plain):
        rows = rows if plain else rows.detach().requires_grad_()
        logits = layer.logits(rows)
    # A copy where autograd knows the layer: what that gave may be what its own backward pass needs.
    in_float = logits.detach().to(torch.float32, copy=not plain)
    total = summed_nll_(in_float, targets, smoothing, gradient=True)
    if times is not None:
        in_float *= times
    gradient = in_float.to(logits.dtype)
    if plain:
        torch.mm(gradient, layer.layer.weight, out=of_rows)
        _add_linear(gradient, rows, weights, of_weights)
        return total
    found = torch.autograd.grad(logits, (rows, *weights), gradient)
    of_rows.copy_(found[0])
    for own, part in zip(of_weights, found[1:], strict=True):
        own += part
    return total


def _add_linear(
    gradient: torch.Tensor, rows: torch.Tensor, weights: Sequence[torch.Tensor], of_weights: Sequence[torch.Tensor]
) -> None:
    """Adds to the gradients of a linear layer's weight and bias, from that of its logits [n, vocabulary]."""
    for own, found in zip(weights, of_weights, strict=True):
        if own.ndim == 1:
            found += gradient.sum(0, dtype=torch.float32)
        elif found.dtype == gradient.dtype:
            found.addmm_(gradient.T, rows)
        else:
            found += gradient.T @ rows


def rows_at_once(vocabulary: int, device: torch.device) -> int:
    """Returns of how many tokens logits are held at once."""
    if device.type == "cpu":
        return max(FEWEST_ROWS, min(CACHED_ROWS, CPU_LOGITS // vocabulary))
    return max(FEWEST_ROWS, GPU_LOGITS // vocabulary // FEWEST_ROWS * FEWEST_ROWS)


def summed_nll(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Returns the summed negative log-likelihood of targets [n] under logits [n, vocabulary], a float32 scalar.

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
            total += summed_nll_(part, chosen, smoothing, gradient=wanted)
        ctx.gradient = logits if wanted else None
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.gradient.mul_(gradients[0]), None, None


def summed_nll_(logits: torch.Tensor, targets: torch.Tensor, smoothing: float, *, gradient: bool) -> torch.Tensor:
    """Returns the summed negative log-likelihood of targets [n] under logits [n, vocabulary], a float32 scalar.

    With a smoothing e the target is 1 - e of the token and e of all words alike (Szegedy et al. 2016): the loss is
    logsumexp - (1 - e) · logit of the token - e · mean of the logits, its gradient softmax - (1 - e) · one-hot - e / V.

    Args:
        logits: float32; with `gradient` they become the gradient of the sum.
    """
    normalizer = logits.logsumexp(-1, keepdim=True)
    picked = logits.gather(1, targets[:, None])
    expected = picked.lerp(logits.mean(-1, keepdim=True), smoothing) if smoothing else picked
    if gradient:
        logits.sub_(normalizer).exp_()
        if smoothing:
            logits.sub_(smoothing / logits.shape[1])
        logits.scatter_add_(1, targets[:, None], torch.full_like(picked, smoothing - 1))
    return (normalizer - expected).sum()
