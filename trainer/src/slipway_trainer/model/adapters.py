"""Adapters on a model: how one is made."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from slipway_core.resources.stage import Stage
from slipway_trainer.model import whole_layers
from slipway_trainer.step.errors import BadConfig, first_line

if TYPE_CHECKING:
    from peft import PeftModel


def add_adapter(model: PreTrainedModel, stage: Stage, targets: list[str]) -> PeftModel:
    """Returns the model with the new LoRA (Hu et al. 2021) or DoRA (Liu et al. 2024) adapter of a stage, and with the
    layers that it trains whole; the rest is frozen.

    Raises BadConfig when peft cannot make it.
    """
    from peft import LoraConfig, get_peft_model

    adapter = stage.adapter
    assert adapter is not None
    torch.manual_seed(stage.seed)
    whole = whole_layers.resolve(model, stage)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]
        lora_dropout=adapter.dropout,
        use_rslora=adapter.rank_stabilized,
        target_modules=targets,
        modules_to_save=whole or None,
        # A tied pair is trained as one weight, and stays one when it is merged.
        ensure_weight_tying=bool(whole) and whole_layers.tied(model),
        use_dora=adapter.method == "DoRA",
    )
    try:
        with warnings.catch_warnings():
            # GPT-2 keeps its matrices the other way round; peft finds out, and says that it did.
            warnings.filterwarnings("ignore", message="fan_in_fan_out")
            wrapped = get_peft_model(model, config)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise BadConfig(
            f"stages[{stage.name}].adapter: {adapter.method} cannot go on {', '.join(targets)}: {first_line(error)}"
        ) from None
    return wrapped  # type: ignore[return-value]
