"""A linear layer whose weight lies in pieces (ZeRO-3).

Autograd would keep a view of the gathered weight, and with it all of the weight until the backward pass. DeepSpeed's
own layer keeps the parameter instead, which is gathered once more, but with it the layer's input even where the weight
is frozen and no gradient needs that. Here a frozen weight keeps no input: what an adapter's base would hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(given: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        result = given.matmul(weight.t())
        return result if bias is None else result.add_(bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:  # pyright: ignore
        (weight,) = ctx.saved_tensors
        # DeepSpeed gathers a module's weights before its backward pass; what a checkpointed block computes again lies
        # outside of that.
        absent = getattr(getattr(weight, "ds_status", None), "name", "") == "NOT_AVAILABLE"
        if absent:
            weight.all_gather()
        try:
            return gradient.matmul(weight), None, None
        finally:
            if absent:
                weight.partition()


@contextmanager
def for_one_stage() -> Iterator[None]:
    """Gives torch its linear layer back, which DeepSpeed replaces for the rest of the process where weights are cut."""
    plain = functional.linear
    try:
        yield
    finally:
        functional.linear = plain


def use() -> None:
    """Replaces torch's linear layer until `for_one_stage` ends; for weights that are cut already."""
    from deepspeed.runtime.zero.linear import zero3_linear_wrap

    def linear(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.requires_grad or (bias is not None and bias.requires_grad):
            return zero3_linear_wrap(given, weight, bias)  # pyright: ignore
        return _Frozen.apply(given, weight, bias)  # pyright: ignore

    functional.linear = linear
