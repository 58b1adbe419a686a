"""Weights in 4 bits while an adapter is trained on them: QLoRA (Dettmers et al. 2023).

The linear layers are NF4 with doubly quantised scales, by bitsandbytes; all else stays as it is. They are quantised on
the CPU whatever trains, from the weights in the precision that they were stored in: so the base that export merges the
adapter into is, bit for bit, the one that it was trained on.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn

from slipway_core.resources.stage import Stage
from slipway_trainer.model import adapter_targets, fused_experts, whole_layers
from slipway_trainer.model.layer_names import end
from slipway_trainer.step.errors import BadConfig

BLOCK = 64
"""Weights that share a scale; a row that is no multiple of it would share one with its neighbour, which not every
kernel takes."""


def held_by(stage: Stage) -> bool:
    """Returns whether a stage holds its base in 4 bits."""
    return stage.adapter is not None and stage.adapter.method == "QLoRA"


def check(model: nn.Module, stage: Stage) -> None:
    """Raises BadConfig that names the field where bitsandbytes is not there, or cannot take a layer of the model.

    Args:
        model: with or without weights.
    """
    field = f"stages[{stage.name}].adapter.method: QLoRA"
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadConfig(f"{field} needs bitsandbytes, which is not installed: pip install bitsandbytes, or use LoRA")
    for name, layer in _layers(model, stage).items():
        if not isinstance(layer, nn.Linear):
            raise BadConfig(
                f"{field}: {name} is a {type(layer).__name__}, and bitsandbytes takes Linear layers: use LoRA"
            )
        if layer.in_features % BLOCK:
            raise BadConfig(
                f"{field}: {name} has {layer.in_features} inputs, and bitsandbytes takes them in blocks of {BLOCK}: "
                "use LoRA"
            )


def left_out(model: nn.Module) -> str | None:
    """Returns which weights stay as they are although they are matrices; None when none do.

    Args:
        model: with or without weights, before it has an adapter.
    """
    stay = fused_experts.tensors(model)
    if not stay:
        return None
    share = sum(weight.numel() for weight in stay.values()) / sum(weight.numel() for weight in model.parameters())
    return (
        f"{', '.join(sorted({end(name) for name in stay}))} hold several matrices in one tensor and are not held in 4 "
        f"bits: {share:.0%} of the weights stay as they are"
    )


def quantize(model: Any, stage: Stage, dtype: torch.dtype) -> None:
    """Replaces the linear layers by ones of 4 bits that compute in `dtype`, one at a time."""
    from bitsandbytes.nn import modules

    layers = _layers(model, stage)
    while layers:
        # Taken out, so that its own weights are gone before the next one is quantised.
        name, layer = layers.popitem()
        model.set_submodule(name, _quantized(layer, dtype, modules))
    # What peft looks at.
    model.is_loaded_in_4bit = True


def _quantized(layer: Any, dtype: torch.dtype, modules: Any) -> nn.Module:
    with torch.device("meta"):
        new = modules.Linear4bit(
            layer.in_features, layer.out_features, bias=False, compute_dtype=dtype, quant_type="nf4"
        )
    weight = layer.weight.detach().float()
    packed = modules.Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4", module=new)
    new.weight = packed.to("cpu")
    # Else they are dequantised into float32, and then into what the layer computes in.
    new.weight.quant_state.dtype = dtype
    new.bias = layer.bias
    # On some CPUs the first evaluation would put the weights into another order, in which the backward pass of the
    # next step, and whoever dequantises them, reads garbage.
    new.support_avx512bf16_for_cpu = False
    return new.train(layer.training)


def round_trip(model: Any, stage: Stage, dtype: torch.dtype | None = None) -> None:
    """Gives the linear layers the weights that they have in 4 bits, rounded once to `dtype` (the one that they had when
    None)."""
    from bitsandbytes import functional

    with torch.no_grad():
        for layer in _layers(model, stage).values():
            packed, state = functional.quantize_4bit(
                layer.weight.detach().float(), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
            )
            layer.weight.data = functional.dequantize_4bit(packed, state).to(dtype or layer.weight.dtype)


def weights_in(parameter: nn.Parameter) -> int:
    """Returns how many weights a parameter holds: two in a byte, where they are held in 4 bits."""
    return parameter.numel() * (2 if parameter.dtype == torch.uint8 else 1)


def weights(model: nn.Module, stage: Stage) -> int:
    """Returns how many weights of a model as it is before a stage that will hold in 4 bits."""
    return sum(layer.weight.numel() for layer in _layers(model, stage).values())


def _layers(model: nn.Module, stage: Stage) -> dict[str, Any]:
    whole = set(whole_layers.resolve(model, stage))
    return {name: layer for name, layer in adapter_targets.linear_layers(model).items() if name not in whole}
