"""AdamW whose moments are held in 8 bits: bitsandbytes (Dettmers et al. 2022)."""

from __future__ import annotations

from typing import Any

import torch

from slipway_core.resources.stage import Stage
from slipway_trainer.step import packages
from slipway_trainer.step.errors import BadConfig, first_line

SMALLEST = 4096
"""Weights of a tensor below which bitsandbytes keeps its moments in 32 bits."""


def make(
    groups: list[dict[str, Any]], in_32_bits: set[int], stage: Stage, device: torch.device
) -> torch.optim.Optimizer:
    """Returns the optimizer, with a rate of 0.

    Args:
        groups: of weights.
        in_32_bits: those whose moments are kept so, by their `id`: whole groups. Embeddings are, because 8 bits lose
            what they learn of rare tokens (section 2.3 of the paper), and norms and biases are small.

    Raises BadConfig when bitsandbytes is missing, or has no program for the device.
    """
    field = f"stages[{stage.name}].optimizer.name: AdamW8bit"
    packages.require("bitsandbytes", by=field, instead="AdamW")
    from bitsandbytes.optim.adamw import AdamW8bit

    class ByGroup(AdamW8bit):
        """Takes the bits of the moments from the group, which is there in every ZeRO stage."""

        def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
            return super().get_config(gindex, pindex, group) | {"optim_bits": group["optim_bits"]}

    settings = stage.optimizer
    groups = [group | {"optim_bits": 32 if id(group["params"][0]) in in_32_bits else 8} for group in groups]
    named = {"betas": (settings.beta1, settings.beta2), "eps": settings.epsilon, "min_8bit_size": SMALLEST}
    _try(ByGroup([{"params": [torch.nn.Parameter(torch.zeros(SMALLEST, device=device))], "optim_bits": 8}]), field)
    return ByGroup(groups, lr=0.0, **named)


def _try(optimizer: torch.optim.Optimizer, field: str) -> None:
    """Takes a step of one small tensor: what bitsandbytes has no program for, it says only then."""
    (weight,) = optimizer.param_groups[0]["params"]
    weight.grad = torch.ones_like(weight)
    try:
        optimizer.step()
    except (RuntimeError, NotImplementedError, AttributeError, ValueError) as error:
        raise BadConfig(
            f"{field}: bitsandbytes cannot run it on this {weight.device.type}: {first_line(error)}. "
            "Install a build of it for this device, or use AdamW"
        ) from None
