"""The size of a model as a stage trains it, with its adapter, for what fits."""

from __future__ import annotations

from typing import Any

import torch

from slipway_core.resources.stage import Stage
from slipway_trainer.model import four_bits, prompt_adapters
from slipway_trainer.model.pieces import held_by, size_of
from slipway_trainer.training.memory import ModelSize


def of_model(model: Any, stage: Stage, *, four_bit_weights: int = 0) -> ModelSize:
    """
    Args:
        model: with its adapter, if the stage trains one; with or without weights.
        four_bit_weights: how many of its weights the stage will hold in 4 bits, where they are not yet.
    """
    packed = sum(parameter.numel() for parameter in model.parameters() if parameter.dtype == torch.uint8)
    experts = _adapted_experts(model) if stage.adapter is not None else 0
    return ModelSize.of(
        model.config,
        # Two weights lie in a byte.
        parameters=sum(size_of(p) for p in model.parameters()) + packed,
        trainable=sum(size_of(p) for p in model.parameters() if p.requires_grad),
        four_bit_weights=four_bit_weights or 2 * packed,
        expert_weights=experts,
        in_one_piece=_in_one_piece(stage, experts),
        in_pieces=held_by(model),
    )


def _in_one_piece(stage: Stage, experts: int) -> str | None:
    if four_bits.held_by(stage):
        return "weights of 4 bits are not held in pieces"
    if prompt_adapters.asked_by(stage):
        return "virtual tokens are not held in pieces"
    return "an adapter on experts reads them whole" if experts else None


def _adapted_experts(model: Any) -> int:
    config = model.peft_config["default"]
    wanted = set(getattr(config, "target_parameters", None) or ())
    names = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): parameter.numel()
        for name, parameter in model.named_parameters()
    }
    return sum(size for name, size in names.items() if name in wanted)
