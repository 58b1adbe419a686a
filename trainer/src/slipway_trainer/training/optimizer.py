"""AdamW: which weights decay, and how the learning rate moves."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from slipway_core.resources.stage import Optimizer
from slipway_trainer.model.token_rows import TokenRows


def parameter_groups(model: nn.Module, settings: Optimizer) -> list[dict]:
    """Returns the trainable weights in two groups: matrices decay, norms, biases and embeddings do not.

    A tied output layer is the embedding, so it does not decay either; nor do rows that are trained beside an adapter.
    """
    embeddings = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding | TokenRows)
        for parameter in module.parameters(recurse=False)
    }
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
            (decayed if matrix else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adamw(model: nn.Module, settings: Optimizer, device: torch.device) -> torch.optim.AdamW:
    """Returns AdamW (Loshchilov and Hutter, 2019) in torch's fused form, which needs no compiler.

    Its rate is 0 until the loop sets that of the first step: DeepSpeed takes a step of its own to make the state.
    """
    return torch.optim.AdamW(
        parameter_groups(model, settings),
        lr=0.0,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=device.type in ("cpu", "cuda"),
    )


def learning_rate(step: int, total: int, settings: Optimizer) -> float:
    """Returns the rate of optimizer step `step`, counted from 0, of `total`.

    It rises linearly to the peak, which the last step of the warm-up reaches, and then falls along half a cosine or a
    line to `minLearningRateRatio` of the peak, where the step after the last would be: no step learns nothing.
    Constant stays at the peak.
    """
    peak = settings.learning_rate
    warmup = math.ceil(total * settings.warmup_ratio)
    if step < warmup:
        return peak * (step + 1) / warmup
    if settings.schedule == "Constant":
        return peak
    done = min(1.0, (step - warmup + 1) / (total - warmup + 1))
    left = 0.5 * (1 + math.cos(math.pi * done)) if settings.schedule == "Cosine" else 1 - done
    lowest = settings.min_learning_rate_ratio
    return peak * (lowest + (1 - lowest) * left)


def set_learning_rate(groups: Iterable[dict], rate: float) -> None:
    for group in groups:
        group["lr"] = rate
