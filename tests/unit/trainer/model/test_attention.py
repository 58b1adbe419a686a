"""Which attention is chosen, and that none of those for packed rows builds a mask."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, masking_utils

from slipway_trainer.batches.collate import Batch
from slipway_trainer.model import attention, document_attention
from slipway_trainer.model.attention import attention_for
from slipway_trainer.model.document_attention import CALLS, VARLEN
from slipway_trainer.model.model_inputs import model_inputs

AMPERE, TURING = (8, 0), (7, 5)
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
HEADS = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("family", "settings", "dtype", "gpu", "flash", "expected"),
    [
        ("llama", HEADS, FP32, None, False, CALLS),
        ("llama", HEADS, BF16, None, True, CALLS),
        ("llama", HEADS, BF16, AMPERE, True, "flash_attention_2"),
        ("llama", HEADS, BF16, AMPERE, False, VARLEN),
        ("llama", HEADS, FP16, AMPERE, False, VARLEN),
        ("llama", HEADS, FP32, AMPERE, True, CALLS),
        ("llama", HEADS, FP16, TURING, False, CALLS),
        ("llama", HEADS | {"head_dim": 36}, BF16, AMPERE, False, CALLS),
        ("llama", HEADS | {"head_dim": 512}, BF16, AMPERE, False, CALLS),
        ("llama", HEADS | {"attention_dropout": 0.1}, BF16, AMPERE, False, CALLS),
        ("qwen3", HEADS, BF16, AMPERE, False, VARLEN),
        ("mistral", {"sliding_window": 16}, FP32, None, False, "sdpa"),
        ("mistral", {"sliding_window": 64}, FP32, None, False, CALLS),
        ("mistral", HEADS | {"sliding_window": 64}, BF16, AMPERE, False, VARLEN),
        ("qwen2", {"use_sliding_window": False}, FP32, None, False, CALLS),
        ("gemma2", {}, FP32, None, False, "sdpa"),
        ("gemma2", {}, BF16, AMPERE, True, "flash_attention_2"),
        ("gpt2", {}, FP32, None, False, "sdpa"),
        ("gpt_oss", {}, BF16, AMPERE, False, "eager"),
    ],
)
def test_the_attention_is_the_cheapest_that_is_exact(
    family: str, settings: dict[str, Any], dtype: torch.dtype, gpu: tuple[int, int] | None, flash: bool, expected: str
) -> None:
    config = AutoConfig.for_model(family, **settings)
    model_class = AutoModelForCausalLM._model_mapping[type(config)]
    assert attention_for(config, model_class, 32, dtype=dtype, gpu=gpu, flash=flash) == expected


@pytest.mark.parametrize("name", ["flash_attention_2", VARLEN, CALLS])
def test_no_attention_for_packed_rows_builds_a_mask(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask of a row of S tokens is S times S; these are told where documents begin instead."""
    document_attention.register()
    given: list[dict[str, Any]] = []

    def attend(module: Any, query: torch.Tensor, key: Any, value: Any, attention_mask: Any, **told: Any) -> Any:
        given.append({"mask": attention_mask, **told})
        return query.transpose(1, 2), None

    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, name, attend)
    config = AutoConfig.for_model("llama", num_hidden_layers=2, vocab_size=96, **HEADS)
    model = AutoModelForCausalLM.from_config(config)
    # Not set_attn_implementation, which asks for the library.
    config._attn_implementation_internal = name
    batch = Batch.of_documents([torch.arange(5), torch.arange(3), torch.arange(8)])
    model(**model_inputs(batch, attention=name, packed=True))
    assert len(given) == 2
    for told in given:
        assert told["mask"] is None
        if name == CALLS:
            assert told["document_lengths"].lengths == [5, 3, 8]
        else:
            assert told["cu_seq_lens_q"].tolist() == told["cu_seq_lens_k"].tolist() == [0, 5, 8, 16]
            assert told["cu_seq_lens_q"].dtype == torch.int32
            assert told["max_length_q"] == told["max_length_k"] == 8
    assert masking_utils.ALL_MASK_ATTENTION_FUNCTIONS.get("sdpa"), "the mask that these have not"


@pytest.mark.parametrize("takes_groups", [True, False])
def test_torchs_kernel_is_asked_for_what_the_calls_compute(monkeypatch: pytest.MonkeyPatch, takes_groups: bool) -> None:
    """The kernel runs on a GPU alone: here it is replaced by its meaning, and compared with one call a document. That
    of torch 2.11 has no enable_gqa, and wants as many heads of keys as of queries."""
    from torch.nn.attention import varlen

    def kernel(query: Any, key: Any, value: Any, starts: Any, starts_k: Any, longest: int, longest_k: int, **told: Any):
        assert starts is starts_k
        assert longest == longest_k == int(starts.diff().max())
        assert told["window_size"] == (-1, 0)
        assert told.get("enable_gqa", False) == takes_groups
        assert takes_groups or query.shape[1] == key.shape[1] == value.shape[1]
        parts = []
        for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            q, k, v = (part[start:end].transpose(0, 1)[None] for part in (query, key, value))
            found = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=told["scale"], enable_gqa=takes_groups
            )
            parts.append(found[0].transpose(0, 1))
        return torch.cat(parts)

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    monkeypatch.setattr(document_attention, "KERNEL_TAKES_GROUPS", takes_groups)
    query, key, value = torch.randn(1, 4, 16, 8), torch.randn(1, 2, 16, 8), torch.randn(1, 2, 16, 8)
    lengths = [5, 3, 8]
    module = torch.nn.Identity()
    documents = document_attention.Documents(lengths)
    expected, _ = document_attention._by_calls(module, query, key, value, None, scaling=0.3, document_lengths=documents)
    bounds = document_attention.bounds(lengths, torch.device("cpu"))
    found, _ = document_attention._by_kernel(module, query, key, value, None, scaling=0.3, **bounds)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="no dropout"):
        document_attention._by_kernel(module, query, key, value, None, dropout=0.1, **bounds)
    with pytest.raises(ValueError, match="cu_seq_lens_q"):
        document_attention._by_kernel(module, query, key, value, None)


def test_a_model_is_set_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AutoConfig.for_model("llama", num_hidden_layers=1, vocab_size=96, **HEADS)
    model = AutoModelForCausalLM.from_config(config)
    attention.set_attention(model, 32, torch.device("cpu"))
    assert model.config._attn_implementation == CALLS
