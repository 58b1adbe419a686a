"""Which attention a model computes with: the one that keeps packed documents apart at the least cost."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig, PreTrainedModel

from slipway_trainer.model import document_attention
from slipway_trainer.step.errors import BadModel, first_line


def attention_for(config: PretrainedConfig, model_class: type, max_length: int, device: str, flash: bool) -> str:
    """Returns the attention that keeps packed documents apart at the least cost, of those that the model has."""
    if device == "cuda" and flash and getattr(model_class, "_supports_flash_attn", False):
        return "flash_attention_2"
    if device != "cuda" and document_attention.is_exact_for(model_class, config, max_length):
        return document_attention.NAME
    # gpt-oss has attention sinks, which torch's own attention does not compute.
    return "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"


def set_attention(model: PreTrainedModel, max_length: int, device: torch.device) -> None:
    """Raises BadModel when the model refuses the attention that it should have."""
    name = attention_for(model.config, type(model), max_length, device.type, _has_flash())
    document_attention.register()
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        what = f"{model.config.model_type} cannot compute with {name} attention"
        raise BadModel(f"model.from: {what}: {first_line(error)}") from None


def _has_flash() -> bool:
    from transformers.utils.import_utils import is_flash_attn_2_available

    return is_flash_attn_2_available()
