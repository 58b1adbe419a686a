"""Folds an adapter into the weights that it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from transformers import PreTrainedModel

from slipway_trainer.model.cast_weights import cast_weights

if TYPE_CHECKING:
    from peft import PeftModel


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """Returns the model without its adapter, whose effect is in the weights now.

    A layer is merged in float32 and then rounded once to the dtype that it had: adding a small update to a bfloat16
    weight in bfloat16 loses most of the update's bits. One layer at a time is held in float32.

    Raises ValueError when a merged weight is not finite.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in [module for module in model.modules() if isinstance(module, BaseTunerLayer)]:
        # Adapters are often kept in float32 on top of bfloat16 weights: what the merged layer must be is the base's.
        dtype = next(layer.get_base_layer().parameters()).dtype
        cast_weights(layer, torch.float32)
        layer.merge(safe_merge=True)
        cast_weights(layer, dtype)
    return cast(PreTrainedModel, model.unload())
