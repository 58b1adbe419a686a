"""Attention for packed rows: each document by itself, with no mask.

A packed row under a block-diagonal mask pays for every pair of tokens in the row and throws most of them away. What
counts is computed by one causal call a document, or by one kernel that is told where documents begin. On a CPU, for
short documents in rows of 512, the calls took 28 ms where the masked one took 93 (8 rows, 4 heads of 32, forward and
backward, one thread).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

CALLS = "slipway_documents"
"""Name in transformers of one causal call a document: for every device and precision."""
VARLEN = "slipway_varlen"
"""Name in transformers of torch's kernel for documents of any length (`torch.nn.attention.varlen`)."""
NAMES = (CALLS, VARLEN)
"""None of them has a mask function there, so transformers builds no mask for it."""


def _kernel_takes_groups() -> bool:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "enable_gqa" in inspect.signature(varlen_attn).parameters


KERNEL_TAKES_GROUPS = _kernel_takes_groups()
"""Whether torch's kernel is given fewer heads of keys than of queries as they are: that of 2.11 wants as many. Asked
once, since a compiled block cannot ask."""


def register() -> None:
    """Makes the attentions known to transformers; doing so again changes nothing."""
    ALL_ATTENTION_FUNCTIONS.register(CALLS, _by_calls)
    ALL_ATTENTION_FUNCTIONS.register(VARLEN, _by_kernel)


def register_uncompiled() -> None:
    """Makes them known as what no compiler looks into, nor into what they are told: the documents of a row."""
    ALL_ATTENTION_FUNCTIONS.register(CALLS, torch.compiler.disable(_by_calls))
    ALL_ATTENTION_FUNCTIONS.register(VARLEN, torch.compiler.disable(_by_kernel))


def is_exact_for(model_class: type[PreTrainedModel], config: PretrainedConfig, max_length: int) -> bool:
    """Whether plain causal attention inside each document is all that this model does.

    Sliding windows shorter than a row, soft caps, attention sinks and layers of other kinds are left to transformers.
    """
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None)
    if getattr(text, "use_sliding_window", True) is False:
        window = None
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    plain = getattr(text, "attn_logit_softcapping", None) is None and not hasattr(text, "attention_chunk_size")
    known = config.model_type in ("llama", "qwen2", "qwen3", "mistral")
    return (
        known
        and plain
        and bool(getattr(model_class, "_supports_sdpa", False))
        and (window is None or window >= max_length)
        and (kinds <= {"full_attention"} or (window is not None and window >= max_length))
    )


def has_kernel_for(config: PretrainedConfig, dtype: torch.dtype, capability: tuple[int, int]) -> bool:
    """Whether torch's kernel takes this model on a GPU: it came with torch 2.10, needs half precision and heads of a
    multiple of 8 up to 256, and a GPU of Ampere or newer.

    Args:
        capability: the GPU's, as CUDA counts.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        return False
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return dtype in (torch.bfloat16, torch.float16) and size % 8 == 0 and size <= 256 and capability >= (8, 0)


class Documents:
    """The lengths of the documents of a flat row. What compiles a model looks into a list, and would compile it once
    more for every number of documents."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)


def told(lengths: Sequence[int], attention: str, device: torch.device) -> dict[str, Any]:
    """Returns what the attention of each layer is told of the documents of a flat row."""
    if attention == CALLS:
        return {"document_lengths": Documents(lengths)}
    return bounds(lengths, device)


def bounds(lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    """Returns where documents begin and end and how long the longest is, under the names by which transformers hands
    them to FlashAttention: without them it would ask the device, which stops it."""
    ends = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    torch.cumsum(torch.tensor(lengths), 0, dtype=torch.int32, out=ends[1:])
    if device.type == "cuda":
        ends = ends.pin_memory().to(device, non_blocking=True)
    longest = max(lengths)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}


def _by_calls(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    document_lengths: Documents | None = None,
    **_kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Takes query [1, heads, tokens, size], key and value [1, groups, tokens, size]; returns [1, tokens, heads, size].

    Raises ValueError when the caller did not say where documents end: without it they would see each other.
    """
    if document_lengths is None or query.shape[0] != 1:
        raise ValueError("attention by documents needs one flat row and document_lengths")
    grouped, lengths = query.shape[1] != key.shape[1], document_lengths.lengths
    parts = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=grouped)
        for q, k, v in zip(
            query.split(lengths, 2),
            key.split(lengths, 2),
            value.split(lengths, 2),
            strict=True,
        )
    ]
    return torch.cat(parts, 2).transpose(1, 2), None


def _by_kernel(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **_kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """As `_by_calls`, in one call. Raises ValueError also for dropout, which the kernel has not."""
    from torch.nn.attention import varlen

    if cu_seq_lens_q is None or max_length_q is None or query.shape[0] != 1 or dropout:
        raise ValueError("attention by documents needs one flat row, cu_seq_lens_q and max_length_q, and no dropout")
    grouped = query.shape[1] != key.shape[1]
    if grouped and not KERNEL_TAKES_GROUPS:
        key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], 1) for part in (key, value))
        grouped = False
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
    groups: dict[str, Any] = {"enable_gqa": True} if grouped else {}
    found = varlen.varlen_attn(
        query,
        key,
        value,
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(-1, 0),
        **groups,
    )
    assert isinstance(found, torch.Tensor)
    return found[None], None
