"""Which attention a model computes with: the one that keeps packed documents apart at the least cost."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig, PreTrainedModel

from slipway_trainer.model import document_attention


def attention_for(config: PretrainedConfig, model_class: type, max_length: int, device: str, flash: bool) -> str:
    """Returns the attention that keeps packed documents apart at the least cost."""
    if device == "cuda":
        return "flash_attention_2" if flash and getattr(model_class, "_supports_flash_attn", False) else "sdpa"
    if document_attention.is_exact_for(model_class, config, max_length):
        return document_attention.NAME
    return "sdpa"


def set_attention(model: PreTrainedModel, max_length: int, device: torch.device) -> str:
    name = attention_for(model.config, type(model), max_length, device.type, _has_flash())
    document_attention.register()
    model.set_attn_implementation(name)
    return name


def _has_flash() -> bool:
    from transformers.utils.import_utils import is_flash_attn_2_available

    return is_flash_attn_2_available()
