"""Folds an adapter into the weights that it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import PreTrainedModel

from slipway_trainer.model.cast_weights import cast_weights
from slipway_trainer.model.pieces import gathered

if TYPE_CHECKING:
    from peft import PeftModel


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """Returns the model without its adapter, whose effect is in the weights now.

    A layer is merged in float32 and then rounded once to the dtype that it had: adding a small update to a bfloat16
    weight in bfloat16 loses most of the update's bits. One layer at a time is held in float32.

    Raises ValueError when a merged weight is not finite.
    """
    for layers in _by_layer(model):
        # Adapters are often kept in float32 on top of bfloat16 weights: what the merged layer must be is the base's.
        dtype = next(layers[0].get_base_layer().parameters()).dtype
        with gathered(layers[0].parameters(), changed=True):
            cast_weights(layers[0], torch.float32)
            for layer in layers:
                layer.merge(safe_merge=True)
            cast_weights(layers[0], dtype)
    return cast(PreTrainedModel, model.unload())


def _by_layer(model: PeftModel) -> list[list[Any]]:
    """Returns the adapters of each layer, the outermost first: experts have one around the other, one a tensor."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: list[list[Any]] = []
    inner: set[int] = set()
    for layer in [module for module in model.modules() if isinstance(module, BaseTunerLayer)]:
        if id(layer) in inner:
            continue
        nested: list[Any] = [layer]
        while isinstance(below := getattr(nested[-1], "base_layer", None), BaseTunerLayer):
            nested.append(below)
        inner.update(id(one) for one in nested)
        found.append(nested)
    return found
