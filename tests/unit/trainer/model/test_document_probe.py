"""Which architectures may have several documents in a row, and which are trained with a document a row."""

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from slipway_trainer.batches import collate, micro_rows
from slipway_trainer.batches.packing import pack
from slipway_trainer.model import attention, document_probe
from slipway_trainer.model.next_token_loss import NextTokenLoss
from slipway_trainer.step.errors import BadModel

DRAW = np.random.default_rng(0)
LENGTHS = [5, 17, 3, 30, 9]
PLAIN = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
APART: list[tuple[str, dict[str, Any]]] = [
    ("llama", PLAIN),
    ("gpt2", {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
    ("gemma3_text", PLAIN | {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}),
    ("qwen3_moe", PLAIN | EXPERTS),
]
TOGETHER: list[tuple[str, dict[str, Any], str]] = [
    ("falcon", {k: PLAIN[k] for k in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}, "see"),
    ("opt", PLAIN | {"word_embed_proj_dim": 32, "ffn_dim": 64}, "see each other"),
    ("bloom", {"vocab_size": 96, "hidden_size": 32, "n_layer": 2, "n_head": 4}, "takes no positions"),
    ("mamba", {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}, "takes no positions"),
    ("lfm2", PLAIN | {"layer_types": ["conv", "full_attention"], "block_ff_dim": 64}, r"carry a state .* \(conv\)"),
    ("gpt_oss", PLAIN | EXPERTS | {"layer_types": ["full_attention"] * 2}, "see each other"),
    (
        "llama4_text",
        PLAIN | EXPERTS | {"attention_chunk_size": 64, "intermediate_size_mlp": 64, "no_rope_layers": [1, 0]},
        "every 64 tokens, counted from the start of a row",
    ),
    (
        "falcon_h1",
        PLAIN | {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 16},
        r"carry a state .* \(hybrid\)",
    ),
]


class Documents:
    """As `shards.Shards`, of random tokens that are all learned."""

    lengths = np.array(LENGTHS, np.int32)
    tokens = [DRAW.integers(2, 96, n) for n in LENGTHS]  # noqa: RUF012

    chosen = None

    def texts(self, index: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.document(index)]

    def document(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.tokens[index], np.ones(len(self.tokens[index]), bool)


def make(family: str, settings: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings), dtype=dtype)
    attention.set_attention(model, 128, torch.device("cpu"))
    return model


def look(model: Any) -> document_probe.Found:
    return document_probe.look(model, np.arange(2, 90), max_length=128)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "settings"), APART)
def test_what_keeps_documents_apart_is_packed(family: str, settings: dict[str, Any], dtype: torch.dtype) -> None:
    assert look(make(family, settings, dtype)).packed


@pytest.mark.parametrize(("family", "settings"), APART)
@pytest.mark.parametrize("packed", [True, False])
def test_both_ways_learn_what_single_documents_learn(family: str, settings: dict[str, Any], packed: bool) -> None:
    model = make(family, settings).eval()
    assert summed(model, packed=packed) == pytest.approx(one_by_one(plain(model)), rel=1e-5)


def summed(model: Any, *, packed: bool) -> float:
    """The loss of all documents as a stage computes it, two packed rows or as many tokens at once."""
    documents = Documents()
    loss = NextTokenLoss(model, attention=model.config._attn_implementation, packed=packed)
    parts = micro_rows.of_rank(
        pack(documents.lengths, 40), documents.lengths, rank=0, world=1, micro_batch=2, max_length=40, packed=packed
    )
    with torch.no_grad():
        return sum(
            float(loss(collate.batch(documents, part, range(len(part)), max_length=40, pad_id=0)))  # type: ignore[arg-type]
            for part in parts
        )


def plain(model: Any) -> Any:
    """The same model with an attention that needs not be told where documents end."""
    copied = copy.deepcopy(model)
    copied.set_attn_implementation("eager")
    return copied


def one_by_one(model: Any) -> float:
    total = 0.0
    with torch.no_grad():
        for tokens in map(torch.tensor, Documents.tokens):
            logits = model(input_ids=tokens[None], use_cache=False).logits[0]
            total += float(torch.nn.functional.cross_entropy(logits[:-1], tokens[1:], reduction="sum"))
    return total


@pytest.mark.parametrize(("family", "settings", "why"), TOGETHER)
def test_what_does_not_is_trained_with_a_document_a_row(family: str, settings: dict[str, Any], why: str) -> None:
    model = make(family, settings).eval()
    found = look(model)
    assert not found.packed
    assert family in found.reason
    assert re.search(why, found.reason), found.reason
    assert summed(model, packed=False) == pytest.approx(one_by_one(model), rel=1e-5)


def test_packed_documents_of_falcon_would_change_the_loss() -> None:
    model = make(*TOGETHER[0][:2]).eval()
    assert summed(model, packed=True) != pytest.approx(one_by_one(model), rel=1e-3)


def test_the_probe_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model = make(*APART[0]).train()
    before = torch.random.get_rng_state()
    assert look(model) == look(model)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_that_sees_what_comes_next_is_refused() -> None:
    with pytest.raises(BadModel, match=r"model\.from: bert lets a token see what comes after it.*is_decoder"):
        look(make("bert", PLAIN))


def test_a_model_that_cannot_be_called_with_tokens_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(*APART[0])

    def forward(pixels: Any) -> None:
        """Takes no tokens."""

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(BadModel, match=r"model\.from: llama is not a language model.*fails with TypeError"):
        look(model)


def test_a_model_without_an_output_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(*APART[0])
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    with pytest.raises(BadModel, match=r"model\.from: llama has no output layer"):
        look(model)


def test_weights_that_are_no_numbers_are_left_to_the_loss() -> None:
    model = make(*APART[0])
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    found = look(model)
    assert not found.packed
    assert "not numbers" in found.reason
