"""Packed rows compute what their documents compute one by one, in loss, logits and gradients."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from slipway_trainer.batches import collate
from slipway_trainer.batches.packing import pack
from slipway_trainer.model import document_attention
from slipway_trainer.model.attention import attention_for
from slipway_trainer.model.next_token_loss import NextTokenLoss, summed_nll

LENGTHS = [5, 17, 3, 30, 1, 12, 8, 22]


class Documents:
    """As `shards.Shards`, of random tokens; every third token is learned when masked."""

    def __init__(self, masked: bool) -> None:
        draw = np.random.default_rng(0)
        self.lengths = np.array(LENGTHS, np.int32)
        self.tokens = [draw.integers(0, 96, n) for n in LENGTHS]
        self.learn = [draw.random(n) < 0.4 if masked else np.ones(n, bool) for n in LENGTHS]

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


def batch(documents: Documents, rows: int = 3) -> dict[str, torch.Tensor]:
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
@pytest.mark.parametrize("attention", ["sdpa", document_attention.NAME])
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
    found = NextTokenLoss(packed, attention=attention)(**batch(documents))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    expected.backward()
    found.backward()
    for (name, one), two in zip(plain.named_parameters(), packed.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, atol=2e-3, rtol=1e-4, msg=name)


@pytest.mark.parametrize("attention", ["sdpa", document_attention.NAME])
def test_packed_logits_are_those_of_single_documents(attention: str) -> None:
    documents = Documents(masked=False)
    model = make("llama", attention).eval()
    plain = make("llama", "eager").eval()
    made = batch(documents)
    inputs, positions = made["input_ids"], made["position_ids"]
    extra: dict[str, Any] = {}
    if attention == document_attention.NAME:
        inputs, positions = inputs.view(1, -1), positions.view(1, -1)
        extra["document_lengths"] = document_attention.lengths(positions[0])
    with torch.no_grad():
        logits = model(input_ids=inputs, position_ids=positions, use_cache=False, **extra).logits.reshape(-1, 96)
        starts = (made["position_ids"].reshape(-1) == 0).nonzero().flatten().tolist()
        checked = 0
        for start, end in zip(starts, [*starts[1:], len(logits)], strict=True):
            tokens = made["input_ids"].reshape(1, -1)[:, start:end]
            alone = plain(input_ids=tokens, use_cache=False).logits[0]
            torch.testing.assert_close(logits[start:end], alone, atol=1e-4, rtol=0)
            checked += end - start
    assert checked == logits.shape[0]


def test_a_batch_that_teaches_nothing_has_no_loss_and_no_gradient() -> None:
    model = make("llama", document_attention.NAME)
    made = batch(Documents(masked=False))
    made["labels"].fill_(-100)
    loss = NextTokenLoss(model, attention=document_attention.NAME)(**made)
    loss.backward()
    assert float(loss) == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_only_learned_positions_reach_the_output_layer() -> None:
    model = make("llama", document_attention.NAME)
    shapes: list[torch.Size] = []
    model.get_output_embeddings().register_forward_hook(lambda _m, _i, out: shapes.append(out.shape))
    made = batch(Documents(masked=True))
    NextTokenLoss(model, attention=document_attention.NAME)(**made)
    assert shapes == [torch.Size([1, int((made["labels"] != -100).sum()), 96])]


def test_attention_by_documents_refuses_to_guess_where_they_end() -> None:
    with pytest.raises(ValueError, match="document_lengths"):
        make("llama", document_attention.NAME)(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_in_place_is_cross_entropy(dtype: torch.dtype) -> None:
    hidden = torch.randn(700, 8, dtype=dtype)
    targets = torch.randint(50, (700,))
    layers = [torch.nn.Linear(8, 50, bias=False, dtype=dtype) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    expected = functional.cross_entropy(layers[0](hidden).float(), targets, reduction="sum")
    found = summed_nll(layers[1](hidden), targets)
    torch.testing.assert_close(found, expected)
    (expected * 0.3).backward()
    (found * 0.3).backward()
    torch.testing.assert_close(layers[1].weight.grad, layers[0].weight.grad)
    with torch.no_grad():
        logits = layers[1](hidden)
        before = logits.clone()
        torch.testing.assert_close(summed_nll(logits, targets), expected)
        assert torch.equal(logits, before)


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_smoothed_targets_are_those_of_torch_in_training_and_plain_in_evaluation(smoothing: float) -> None:
    documents = Documents(masked=True)
    made = batch(documents)
    model, plain = (make("llama", document_attention.NAME) for _ in range(2))
    learned = made["labels"].flatten()[1:] != -100
    targets = made["labels"].flatten()[1:][learned]
    extra = {"document_lengths": document_attention.lengths(made["position_ids"].view(-1))}
    inputs, positions = made["input_ids"].view(1, -1), made["position_ids"].view(1, -1)
    logits = plain(input_ids=inputs, position_ids=positions, use_cache=False, **extra).logits[0, :-1][learned]
    expected = functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    loss = NextTokenLoss(model, attention=document_attention.NAME, smoothing=smoothing)
    found = loss.train()(**made)
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-6)
    expected.backward()
    found.backward()
    for (name, one), two in zip(plain.named_parameters(), model.named_parameters(), strict=True):
        torch.testing.assert_close(two[1].grad, one.grad, atol=1e-4, rtol=1e-4, msg=name)
    with torch.no_grad():
        unsmoothed = functional.cross_entropy(logits, targets, reduction="sum")
        torch.testing.assert_close(loss.eval()(**made), unsmoothed, atol=0, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_the_gradient_of_smoothed_targets_is_that_of_torch(smoothing: float) -> None:
    torch.manual_seed(0)
    ours = (3 * torch.randn(300, 50)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    targets = torch.randint(50, (300,))
    expected = functional.cross_entropy(theirs, targets, reduction="sum", label_smoothing=smoothing)
    # A copy: the gradient is made in the place of the logits.
    found = summed_nll(ours * 1, targets, smoothing)
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-6)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("family", "settings", "device", "flash", "expected"),
    [
        ("llama", {}, "cpu", False, document_attention.NAME),
        ("llama", {}, "cuda", True, "flash_attention_2"),
        ("llama", {}, "cuda", False, "sdpa"),
        ("mistral", {"sliding_window": 16}, "cpu", False, "sdpa"),
        ("mistral", {"sliding_window": 64}, "cpu", False, document_attention.NAME),
        ("qwen2", {"use_sliding_window": False}, "cpu", False, document_attention.NAME),
        ("gemma2", {}, "cpu", False, "sdpa"),
        ("gpt2", {}, "cpu", False, "sdpa"),
    ],
)
def test_the_attention_is_exact_for_the_model(
    family: str, settings: dict[str, Any], device: str, flash: bool, expected: str
) -> None:
    config = AutoConfig.for_model(family, **settings)
    model_class = AutoModelForCausalLM._model_mapping[type(config)]
    assert attention_for(config, model_class, 32, device, flash) == expected
