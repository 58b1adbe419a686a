"""Which attention a model computes with: the one that keeps packed documents apart at the least cost."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig, PreTrainedModel

from slipway_trainer.model import document_attention
from slipway_trainer.step.errors import BadModel, first_line


def attention_for(
    config: PretrainedConfig,
    model_class: type[PreTrainedModel],
    max_length: int,
    *,
    dtype: torch.dtype,
    gpu: tuple[int, int] | None = None,
    flash: bool = False,
) -> str:
    """Returns the attention that keeps packed documents apart at the least cost, of those that the model has.

    Args:
        max_length: tokens of a packed row.
        gpu: its compute capability; None for a CPU.
        flash: whether FlashAttention is installed.
    """
    half = dtype in (torch.bfloat16, torch.float16)
    if gpu is not None and half and flash and getattr(model_class, "_supports_flash_attn", False):
        return "flash_attention_2"
    if document_attention.is_exact_for(model_class, config, max_length):
        kernel = gpu is not None and document_attention.has_kernel_for(config, dtype, gpu)
        without_dropout = not getattr(config, "attention_dropout", 0.0)
        return document_attention.VARLEN if kernel and without_dropout else document_attention.CALLS
    # gpt-oss has attention sinks, which torch's own attention does not compute.
    return "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"


def set_attention(model: PreTrainedModel, max_length: int, device: torch.device) -> None:
    """Raises BadModel when the model refuses the attention that it should have."""
    gpu = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    name = attention_for(model.config, type(model), max_length, dtype=model.dtype, gpu=gpu, flash=_has_flash())
    document_attention.register()
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        what = f"{model.config.model_type} cannot compute with {name} attention"
        raise BadModel(f"model.from: {what}: {first_line(error)}") from None


def _has_flash() -> bool:
    from transformers.utils.import_utils import is_flash_attn_2_available

    return is_flash_attn_2_available()
