"""Adapters that stand in front of a text, by peft: Prefix (Li and Liang 2021), PromptTuning (Lester et al. 2021) and
PTuning (Liu et al. 2021).

Virtual tokens are trained, and the model is left alone. They stand in front of every document, so documents share no
row; and they predict nothing, so a model with them gives the logits of the real tokens alone, as one without does.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from slipway_core.resources.stage import Adapter, Stage
from slipway_trainer.step.errors import BadConfig, first_line


def virtual_tokens(model: Any) -> int:
    """Returns how many stand in front of each text of a model; 0 for one without."""
    configs = getattr(model, "peft_config", {})
    return sum(config.num_virtual_tokens for config in configs.values() if config.is_prompt_learning)


def add(model: PreTrainedModel, stage: Stage) -> Any:
    """Returns the model with new virtual tokens; the rest is frozen. Raises BadConfig when peft cannot make them."""
    from peft import get_peft_model

    assert stage.adapter is not None
    torch.manual_seed(stage.seed)
    try:
        return hide_virtual_tokens(get_peft_model(model, _config(stage.adapter)))
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        method = stage.adapter.method
        raise BadConfig(
            f"stages[{stage.name}].adapter: {method} cannot stand before {model.config.model_type}: {first_line(error)}"
        ) from None


def hide_virtual_tokens(model: Any) -> Any:
    """Has a model with virtual tokens compute logits of the real tokens alone: [rows, width, vocabulary].

    The output layer is spared them as well. What generates calls the model inside, and reads the last token only.
    """
    count = virtual_tokens(model)
    if not count or model.peft_config["default"].peft_type == "PREFIX_TUNING":
        # A prefix is keys and values, and has no places of its own.
        return model
    inside = [False]

    def enter(*_: Any) -> None:
        inside[0] = True

    def leave(*_: Any) -> None:
        inside[0] = False

    def real(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][:, count:], *args[1:]) if inside[0] else args

    model.register_forward_pre_hook(enter)
    model.register_forward_hook(leave, always_call=True)
    model.get_base_model().get_output_embeddings().register_forward_pre_hook(real)
    return model


def use_plain_attention(model: PreTrainedModel) -> None:
    """Has the model compute rows of one document each: virtual tokens are no part of what tells documents apart."""
    model.set_attn_implementation("sdpa" if getattr(model, "_supports_sdpa", False) else "eager")


def _config(adapter: Adapter) -> Any:
    from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig

    common: dict[str, Any] = {"task_type": "CAUSAL_LM", "num_virtual_tokens": adapter.virtual_tokens}
    if adapter.method == "Prefix":
        return PrefixTuningConfig(**common)
    if adapter.method == "PromptTuning":
        return PromptTuningConfig(**common)
    return PromptEncoderConfig(**common, encoder_hidden_size=adapter.encoder_hidden_size)  # type: ignore[arg-type]
