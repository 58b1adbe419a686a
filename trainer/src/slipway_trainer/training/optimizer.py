"""The optimizer of a stage: which weights decay, which are held in 8 bits, and which are matrices for Muon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from slipway_core.resources.optimizer import DEFAULT_MOMENTUM
from slipway_core.resources.stage import Stage
from slipway_trainer.model import fused_experts
from slipway_trainer.model.pieces import shape_of
from slipway_trainer.model.token_rows import TokenRows
from slipway_trainer.training import adamw8bit
from slipway_trainer.training.muon import Muon


def make(model: nn.Module, stage: Stage, device: torch.device) -> torch.optim.Optimizer:
    """Returns the optimizer of a stage for the trainable weights of a model.

    Its rate is 0 until the loop sets that of the first step: DeepSpeed takes a step of its own to make the state.

    Raises BadConfig when this device cannot run it.
    """
    settings = stage.optimizer
    matrices = muon_matrices(model) if settings.name == "Muon" else []
    decayed, kept = decayed_and_kept(model)
    taken = {id(weight) for weight in matrices}
    decay = settings.weight_decay
    groups = _filled(
        {"params": [weight for weight in decayed if id(weight) not in taken], "weight_decay": decay},
        {"params": kept, "weight_decay": 0.0},
    )
    if settings.name == "AdamW8bit":
        return adamw8bit.make(groups, {id(weight) for weight in kept}, stage, device)
    adamw = {
        "betas": (settings.beta1, settings.beta2),
        "eps": settings.epsilon,
        # Torch's fused form needs no compiler.
        "fused": device.type in ("cpu", "cuda"),
    }
    if settings.name == "Muon":
        momentum = DEFAULT_MOMENTUM if settings.momentum is None else settings.momentum
        # Half precision is enough (Jordan et al. 2024), and a CPU takes 37 times as long in it (256 × 256).
        computed_in = torch.float32 if device.type == "cpu" else torch.bfloat16
        own = {"params": matrices, "weight_decay": decay}
        return Muon(own, groups, momentum=momentum, computed_in=computed_in, **adamw)
    # Loshchilov and Hutter, 2019.
    return torch.optim.AdamW(groups, lr=0.0, **adamw)


def in_words(made: torch.optim.Optimizer) -> str | None:
    """Returns what Muon takes and what it leaves to AdamW; None of another optimizer."""
    if not isinstance(made, Muon):
        return None
    sizes = [(group, sum(weight.numel() for weight in group["params"]) / 1e6) for group in made.param_groups]
    count = sum(len(group["params"]) for group, _ in sizes if "shapes" in group)
    taken, rest = (sum(size for group, size in sizes if ("shapes" in group) is own) for own in (True, False))
    return f"Muon on {count} matrices of {taken:,.2f}M weights, AdamW on the other {rest:,.2f}M"


def decayed_and_kept(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Returns the trainable weights that decay, which are matrices, and the others: norms, biases and embeddings.

    A tied output layer is the embedding, so it does not decay either; nor do rows that are trained beside an adapter.
    """
    embeddings = _embeddings(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [p for p in trained if len(shape_of(p)) >= 2 and id(p) not in embeddings]
    own = {id(parameter) for parameter in decayed}
    return decayed, [p for p in trained if id(p) not in own]


def _filled(*groups: dict[str, Any]) -> list[dict[str, Any]]:
    return [group for group in groups if group["params"]]


def muon_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Returns the trainable weights that Muon takes: matrices of the blocks, and of adapters on them.

    Embeddings and the output layer go by AdamW. So do experts that are one tensor, which has three dimensions, and
    adapters on them, which have two and are the matrices of all experts: made orthogonal as one, the step of each
    expert would depend on those of the others.
    """
    others = _embeddings(model) | {id(parameter) for layer in _outputs(model) for parameter in layer.parameters()}
    others |= {id(parameter) for parameter in fused_experts.adapters(model)}
    return [p for p in model.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in others]


def _embeddings(model: nn.Module) -> set[int]:
    return {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding | TokenRows)
        for parameter in module.parameters(recurse=False)
    }


def _outputs(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        find = getattr(module, "get_output_embeddings", None)
        layer = find() if find else None
        if layer is not None:
            yield layer


def set_learning_rate(groups: Iterable[dict], rate: float) -> None:
    for group in groups:
        group["lr"] = rate
