"""The size of a model as a stage trains it, with its adapter, for what fits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from slipway_core.resources.stage import Stage
from slipway_trainer.model import four_bits, fused_experts
from slipway_trainer.model.pieces import held_by, shape_of, size_of
from slipway_trainer.training.model_shape import ModelSize, kept_as


def of_model(model: Any, stage: Stage, *, four_bit_weights: int = 0) -> ModelSize:
    """
    Args:
        model: with its adapter, if the stage trains one; with or without weights.
        four_bit_weights: how many of its weights the stage will hold in 4 bits, where they are not yet.
    """
    packed = sum(parameter.numel() for parameter in model.parameters() if parameter.dtype == torch.uint8)
    experts = _adapted_experts(model) if stage.adapter is not None else 0
    names = {name for name, _ in model.named_modules()}
    output = model.get_output_embeddings()
    return ModelSize.of(
        model.config,
        # Two weights lie in a byte.
        parameters=sum(size_of(p) for p in model.parameters()) + packed,
        trainable=sum(size_of(p) for p in model.parameters() if p.requires_grad),
        four_bit_weights=four_bit_weights or 2 * packed,
        expert_weights=experts,
        stacked=sum(map(size_of, _stacked(model))),
        in_one_piece=_in_one_piece(stage, experts),
        in_pieces=held_by(model),
        gated=any("gate" in name for name in names),
        head_norms=any(name.endswith("q_norm") for name in names),
        trains_output=output is None or any(p.requires_grad for p in output.parameters()),
        **(_adapted_layers(model, stage) if stage.adapter is not None else {}),
    )


def _stacked(model: Any) -> list[nn.Parameter]:
    several = [weight for weight in model.parameters() if len(shape_of(weight)) > 2]
    return [weight for weight in (*several, *fused_experts.adapters(model)) if weight.requires_grad]


def _in_one_piece(stage: Stage, experts: int) -> str | None:
    if four_bits.held_by(stage):
        return "weights of 4 bits are not held in pieces"
    if stage.virtual_tokens:
        return "virtual tokens are not held in pieces"
    return "an adapter on experts reads them whole" if experts else None


def _adapted_layers(model: Any, stage: Stage) -> dict[str, int]:
    """Returns what of the inputs of linear layers an adapter keeps: a frozen layer needs its own for nothing."""
    adapter = stage.adapter
    assert adapter is not None
    inputs: dict[str, int] = {}
    layers = [(name, module) for name, module in model.named_modules() if hasattr(module, "lora_A")]
    dropped = 0
    for name, module in layers:
        before, _, own = name.rpartition(".")
        size = getattr(module, "in_features", 0)
        inputs[f"{before}.{kept_as(own)}"] = size
        if adapter.dropout:
            dropped += size
        if adapter.method == "DoRA":
            dropped += 2 * getattr(module, "out_features", 0)
    return {
        "adapted": len(layers),
        "rank": adapter.rank,
        "adapted_outputs": sum(getattr(module, "out_features", 0) for _, module in layers),
        "kept_inputs": sum(inputs.values()),
        "dropped_inputs": dropped,
    }


def _adapted_experts(model: Any) -> int:
    config = model.peft_config["default"]
    wanted = set(getattr(config, "target_parameters", None) or ())
    names = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): parameter.numel()
        for name, parameter in model.named_parameters()
    }
    return sum(size for name, size in names.items() if name in wanted)
