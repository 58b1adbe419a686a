"""Experts of a mixture whose matrices are one tensor, as transformers keeps them: [experts, ., .]."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from slipway_trainer.model.layer_names import is_called
from slipway_trainer.model.pieces import shape_of

_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Where configurations say how many experts a layer has."""
_WHOLE = {"original_module", "modules_to_save"}
"""How peft calls the two copies of a layer that is trained whole."""


def of_model(model: Any, *, without: Collection[str] = ()) -> list[str]:
    """Returns the full names of tensors that are the matrices of all experts, one after the other.

    Args:
        without: layers of which none is wanted.
    """
    config = model.config.get_text_config()
    counts = {getattr(config, name, None) for name in _COUNTS} - {None}
    return [
        name
        for name, weight in tensors(model).items()
        if len(shape_of(weight)) == 3 and shape_of(weight)[0] in counts and name.rpartition(".")[0] not in without
    ]


def count(config: Any) -> int | None:
    """Returns how many experts a layer of a model has, by its configuration; None where it says nothing of any."""
    return next((found for name in _COUNTS if (found := getattr(config, name, None))), None)


def tensors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the weights that are several matrices in one tensor, by the full names that they have without an adapter;
    those that an adapter's stage trains whole are not among them."""
    return {
        f"{place}.{name}".replace(".base_layer", ""): weight
        for place, module in model.named_modules()
        if not isinstance(module, nn.modules.conv._ConvNd) and not _WHOLE & set(place.split("."))
        for name, weight in module.named_parameters(recurse=False)
        if len(shape_of(weight)) > 2
    }


def called(model: nn.Module, wanted: Collection[str]) -> list[str]:
    """Returns the full names of those of the experts that are called so, sorted."""
    return sorted(name for name in of_model(model) if any(is_called(name, one) for one in wanted))


def adapters(model: nn.Module) -> list[nn.Parameter]:
    """Returns the weights of adapters on such tensors: each holds the thin matrices of all experts side by side."""
    # peft's layer for a tensor that is no layer of its own.
    layers: list[Any] = [one for one in model.modules() if hasattr(one, "lora_A") and hasattr(one, "parameter_name")]
    return [weight for layer in layers for part in (layer.lora_A, layer.lora_B) for weight in part.parameters()]


def short(name: str) -> str:
    """Returns the end of a name that tells experts from linear layers: `experts.down_proj`."""
    return ".".join(name.split(".")[-2:])
