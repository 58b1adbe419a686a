"""The loss made inside the output layer is the cross entropy of the model's own logits, at a fraction of the memory."""

import copy
import gc
import threading
import time
from typing import Any

import psutil
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from slipway_trainer.model import logit_transform, output_loss, token_rows
from slipway_trainer.model.next_token_loss import output_loss as loss_of
from slipway_trainer.model.output_loss import OutputLoss, WholeLogitsLoss, summed_nll

PLAIN: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "initializer_range": 0.3,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
GPT2 = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3}
FAMILIES = [
    ("llama", PLAIN | {"tie_word_embeddings": False}),
    ("llama", PLAIN | {"tie_word_embeddings": True}),
    ("gpt2", GPT2),
    ("gptj", GPT2 | {"rotary_dim": 4, "tie_word_embeddings": False}),
    ("phi", PLAIN),
    ("gemma2", PLAIN | {"final_logit_softcapping": 3.0, "sliding_window": 64}),
    ("cohere", PLAIN | {"logit_scale": 0.25}),
    ("granite", PLAIN | {"logits_scaling": 4.0}),
]


def make(family: str, settings: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings), dtype=dtype).eval()


@pytest.mark.parametrize(("family", "settings"), FAMILIES)
@pytest.mark.parametrize("rows", [5, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradients_are_those_of_the_models_own_logits(
    family: str, settings: dict[str, Any], rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_loss, "rows_at_once", lambda *_: rows)
    plain = make(family, settings, dtype)
    chunked = copy.deepcopy(plain)
    tokens = torch.randint(2, 96, (2, 12))
    predicting = torch.tensor([0, 1, 2, 5, 8, 10, 12, 14, 15, 16, 20, 22])
    targets = tokens.reshape(-1)[predicting + 1]
    logits = plain(input_ids=tokens, use_cache=False).logits.reshape(24, -1)[predicting].float()
    expected = functional.cross_entropy(logits, targets, reduction="sum")
    (expected * 0.3).backward()

    loss = loss_of(chunked, "sdpa", sharded=False)
    assert isinstance(loss, OutputLoss)
    found = loss.of(lambda: chunked(input_ids=tokens, use_cache=False), predicting, targets)
    (found * 0.3).backward()
    half = dtype == torch.bfloat16
    assert found.item() == pytest.approx(expected.item(), rel=1e-2 if half else 1e-6)
    for (name, one), two in zip(plain.named_parameters(), chunked.parameters(), strict=True):
        scale = float(one.grad.abs().max()) if one.grad is not None else 0.0
        torch.testing.assert_close(two.grad, one.grad, atol=scale * (4e-2 if half else 1e-5), rtol=0, msg=name)
    # Asked for nothing, the model gives its logits as before.
    with torch.no_grad():
        given = chunked(input_ids=tokens, use_cache=False).logits
        torch.testing.assert_close(given, plain(input_ids=tokens, use_cache=False).logits)
        again = loss.of(lambda: chunked(input_ids=tokens, use_cache=False), predicting, targets)
    torch.testing.assert_close(again, found.detach())


@pytest.mark.parametrize(("family", "settings"), FAMILIES)
def test_what_the_model_does_to_its_logits_is_found_out(family: str, settings: dict[str, Any]) -> None:
    model = make(family, settings)
    transform = logit_transform.of_model(model, "sdpa")
    assert transform is not None
    given = torch.linspace(-9, 9, 7)
    expected = {
        "gemma2": 3 * torch.tanh(given / 3),
        "cohere": given * 0.25,
        "granite": given / 4,
    }.get(family, given)
    torch.testing.assert_close(transform(given), expected)
    assert (transform is logit_transform.unchanged) == (family not in ("gemma2", "cohere", "granite"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("family", "setting", "value", "of_50"),
    [
        ("gemma2", "final_logit_softcapping", 30.0, 27.933),
        ("granite", "logits_scaling", 1.02, 50 / 1.02),
        ("cohere", "logit_scale", 0.98, 49.0),
    ],
)
def test_it_is_found_out_of_a_model_whose_own_logits_are_too_small_to_show_it(
    family: str, setting: str, value: float, of_50: float, dtype: torch.dtype
) -> None:
    model = make(family, PLAIN | {setting: value, "initializer_range": 0.02}, dtype)
    transform = logit_transform.of_model(model, "sdpa")
    assert transform is not None
    assert transform(torch.tensor(50.0)).item() == pytest.approx(of_50, rel=1e-4)


def test_a_model_that_does_something_else_keeps_its_whole_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama", PLAIN)
    forward = type(model).forward

    def strange(self: Any, *args: Any, **named: Any) -> Any:
        found = forward(self, *args, **named)
        found.logits = found.logits.sin()
        return found

    monkeypatch.setattr(type(model), "forward", strange)
    loss = loss_of(model, "sdpa", sharded=False)
    assert isinstance(loss, WholeLogitsLoss)
    tokens = torch.randint(2, 96, (1, 12))
    predicting, targets = torch.arange(3, 9), tokens[0, 4:10]
    found = loss.of(lambda: model(input_ids=tokens, use_cache=False), predicting, targets)
    logits = model(input_ids=tokens, use_cache=False).logits[0, 3:9]
    torch.testing.assert_close(found, functional.cross_entropy(logits, targets, reduction="sum"))


@pytest.mark.parametrize("tied", [False, True])
def test_rows_that_are_trained_beside_an_adapter_learn_through_it(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import LoraConfig, get_peft_model

    monkeypatch.setattr(output_loss, "rows_at_once", lambda *_: 4)

    def adapted() -> Any:
        torch.manual_seed(1)
        made = get_peft_model(
            make("llama", PLAIN | {"tie_word_embeddings": tied}), LoraConfig(target_modules=["v_proj"])
        )
        token_rows.attach(made, [3, 90])
        with torch.no_grad():
            for weight in token_rows.of_model(made).parameters():
                weight.normal_()
        return made

    plain, chunked = adapted(), adapted()
    tokens = torch.tensor([[3, 5, 90, 7, 3, 90, 90, 12]])
    logits = plain(input_ids=tokens, use_cache=False).logits[0, :-1]
    expected = functional.cross_entropy(logits, tokens[0, 1:], reduction="sum")
    expected.backward()
    loss = loss_of(chunked, "sdpa", sharded=False)
    assert isinstance(loss, OutputLoss)
    found = loss.of(lambda: chunked(input_ids=tokens, use_cache=False), torch.arange(7), tokens[0, 1:])
    found.backward()
    torch.testing.assert_close(found, expected)
    learned = 0
    for (name, one), two in zip(plain.named_parameters(), chunked.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(two.grad, one.grad, msg=name)
            learned += "token_rows" in name and bool(one.grad.any())
    assert learned == (1 if tied else 2)
    # Where weights are there only while their module is called, those rows are not there inside the layer.
    assert isinstance(loss_of(adapted(), "sdpa", sharded=True), WholeLogitsLoss)


def test_nothing_to_learn_is_no_loss_and_no_gradient() -> None:
    layer = nn.Linear(8, 50, bias=False)
    loss = OutputLoss(layer, None)
    nothing = torch.empty(0, dtype=torch.int64)
    found = loss.of(lambda: layer(torch.randn(1, 4, 8)), nothing, nothing)
    found.backward()
    assert found.item() == 0
    assert layer.weight.grad is not None
    assert not layer.weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_in_place_is_cross_entropy(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(700, 8, dtype=dtype)
    targets = torch.randint(50, (700,))
    layers = [nn.Linear(8, 50, bias=False, dtype=dtype) for _ in range(2)]
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
    ("vocabulary", "device", "rows"),
    [(300, "cpu", 256), (32_000, "cpu", 256), (152_000, "cpu", 128), (32_000, "cuda", 4096), (152_000, "cuda", 768)],
)
def test_a_few_tokens_have_their_logits_at_once(vocabulary: int, device: str, rows: int) -> None:
    assert output_loss.rows_at_once(vocabulary, torch.device(device)) == rows


def peak_of(work: Any) -> int:
    """Returns by how many bytes the process grew at most while it worked."""
    gc.collect()
    process, peak, ended = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not ended.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        ended.set()
        watcher.join()
    return peak[0] - before


def test_memory_does_not_grow_with_tokens_times_words() -> None:
    """The logits of these tokens would take 490 MB, and their gradient as much; of 256 tokens they take 31."""
    vocabulary, tokens = 30_000, 4096
    layer = nn.Linear(64, vocabulary, bias=False)
    hidden = torch.randn(1, tokens, 64, requires_grad=True)
    targets = torch.randint(vocabulary, (tokens,))
    loss = OutputLoss(layer, None)
    grown = peak_of(lambda: loss.of(lambda: layer(hidden), torch.arange(tokens), targets).backward())
    assert grown < 250 << 20
