"""Packed rows compute what their documents compute one by one, in loss, logits and gradients."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from slipway_trainer.batches import collate
from slipway_trainer.batches.collate import Batch
from slipway_trainer.batches.packing import pack
from slipway_trainer.model import document_attention
from slipway_trainer.model.model_inputs import model_inputs
from slipway_trainer.model.next_token_loss import NextTokenLoss

LENGTHS = [5, 17, 3, 30, 1, 12, 8, 22]


class Documents:
    """As `shards.Shards`, of random tokens; every third token is learned when masked."""

    def __init__(self, masked: bool) -> None:
        draw = np.random.default_rng(0)
        self.lengths = np.array(LENGTHS, np.int32)
        self.tokens = [draw.integers(0, 96, n) for n in LENGTHS]
        self.learn = [draw.random(n) < 0.4 if masked else np.ones(n, bool) for n in LENGTHS]

    chosen = None

    def texts(self, index: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.document(index)]

    def document(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.tokens[index], self.learn[index]


def make(family: str, attention: str, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=96,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        **settings,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    document_attention.register()
    model.set_attn_implementation(attention)
    return model


def batch(documents: Documents, rows: int = 3) -> Batch:
    bins = pack(documents.lengths, 40)
    assert len(bins) >= rows
    return collate.batch(documents, bins, list(range(len(bins))), max_length=40, pad_id=0)  # type: ignore[arg-type]


def one_by_one(model: PreTrainedModel, documents: Documents) -> torch.Tensor:
    """The summed loss of every document by itself, with plain attention."""
    total = torch.zeros(())
    for index in range(len(LENGTHS)):
        tokens, learn = documents.document(index)
        ids = torch.tensor(tokens)
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
        losses = functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
        total = total + losses[torch.tensor(learn)[1:]].sum()
    return total


FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("qwen2", {}),
    ("mistral", {"sliding_window": None}),
    ("qwen3", {"head_dim": 8}),
]


@pytest.mark.parametrize(("family", "settings"), FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", document_attention.CALLS])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_rows_learn_what_single_documents_learn(
    family: str, settings: dict[str, Any], attention: str, checkpointing: bool
) -> None:
    documents = Documents(masked=True)
    plain = make(family, "eager", **settings)
    packed = make(family, attention, **settings).train()
    if checkpointing:
        packed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    expected = one_by_one(plain, documents)
    found = NextTokenLoss(packed, attention=attention)(batch(documents))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    expected.backward()
    found.backward()
    for (name, one), two in zip(plain.named_parameters(), packed.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, atol=2e-3, rtol=1e-4, msg=name)


@pytest.mark.parametrize("attention", ["sdpa", document_attention.CALLS])
def test_packed_logits_are_those_of_single_documents(attention: str) -> None:
    documents = Documents(masked=False)
    model = make("llama", attention).eval()
    plain = make("llama", "eager").eval()
    made = batch(documents)
    with torch.no_grad():
        logits = model(**model_inputs(made, attention=attention, packed=True)).logits.reshape(-1, 96)
        checked = 0
        for end, length in zip(itertools.accumulate(made.lengths), made.lengths, strict=True):
            start = end - length
            tokens = made.input_ids.reshape(1, -1)[:, start:end]
            alone = plain(input_ids=tokens, use_cache=False).logits[0]
            torch.testing.assert_close(logits[start:end], alone, atol=1e-4, rtol=0)
            checked += end - start
    assert checked == logits.shape[0]


def test_a_batch_that_teaches_nothing_has_no_loss_and_no_gradient() -> None:
    model = make("llama", document_attention.CALLS)
    made = batch(Documents(masked=False))
    made = replace(made, predicting=made.predicting[:0], targets=made.targets[:0])
    loss = NextTokenLoss(model, attention=document_attention.CALLS)(made)
    loss.backward()
    assert float(loss) == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_attention_by_documents_refuses_to_guess_where_they_end() -> None:
    with pytest.raises(ValueError, match="document_lengths"):
        make("llama", document_attention.CALLS)(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_smoothed_targets_are_those_of_torch_in_training_and_plain_in_evaluation(smoothing: float) -> None:
    made = batch(Documents(masked=True))
    model, plain = (make("llama", document_attention.CALLS) for _ in range(2))
    inputs = model_inputs(made, attention=document_attention.CALLS, packed=True)
    logits = plain(**inputs).logits[0][made.predicting]
    expected = functional.cross_entropy(logits, made.targets, reduction="sum", label_smoothing=smoothing)
    loss = NextTokenLoss(model, attention=document_attention.CALLS, smoothing=smoothing)
    found = loss.train()(made)
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-6)
    expected.backward()
    found.backward()
    for (name, one), two in zip(plain.named_parameters(), model.named_parameters(), strict=True):
        torch.testing.assert_close(two[1].grad, one.grad, atol=1e-4, rtol=1e-4, msg=name)
    with torch.no_grad():
        unsmoothed = functional.cross_entropy(logits, made.targets, reduction="sum")
        torch.testing.assert_close(loss.eval()(made), unsmoothed, atol=0, rtol=1e-6)
