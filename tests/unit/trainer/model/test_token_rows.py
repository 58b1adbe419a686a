"""Rows of tokens that a base never learned: found, trained beside an adapter, and merged with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_core.resources.stage import Stage
from slipway_trainer.model import token_rows
from slipway_trainer.model.adapters import add_adapter
from slipway_trainer.model.logit_check import sample_logits
from slipway_trainer.model.merge import merge_adapter
from slipway_trainer.model.vocabulary import fit_vocabulary

WORDS = make_tokenizer()
START, END = (int(WORDS.convert_tokens_to_ids(token)) for token in ("<|im_start|>", "<|im_end|>"))  # type: ignore[arg-type]
EOS = int(WORDS.eos_token_id)  # type: ignore[arg-type]
USED = np.array([50, 51, START, 52, END, EOS], np.uint16)
STAGE = Stage.model_validate({"name": "sft", "data": {"train": [{"uri": "package://tang"}]}, "adapter": {"rank": 4}})


def untrained(model: Any, known: int | None = None) -> list[int]:
    rows = model.get_input_embeddings().weight.shape[0]
    return token_rows.untrained(model, WORDS, USED, known=rows if known is None else known)


def blank(model: Any, value: torch.Tensor | float, *tokens: int) -> Any:
    with torch.no_grad():
        for layer in {model.get_input_embeddings(), model.get_output_embeddings()}:
            layer.weight[list(tokens)] = value
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_rows_that_somebody_trained_are_left_alone(tied: bool) -> None:
    assert untrained(make_model(WORDS, tie_word_embeddings=tied)) == []


@pytest.mark.parametrize("tied", [True, False])
def test_rows_that_are_like_another_or_next_to_nothing_were_never_trained(tied: bool) -> None:
    model = make_model(WORDS, tie_word_embeddings=tied)
    alike = blank(model, torch.full((64,), 0.01), START, END)
    assert untrained(alike) == sorted([START, END])
    assert untrained(blank(make_model(WORDS, tie_word_embeddings=tied), 1e-5, EOS)) == [EOS]


def test_rows_of_a_mean_and_a_little_noise_are_alike() -> None:
    noise = torch.randn(2, 64) * 1e-6
    assert untrained(blank(make_model(WORDS), 0.02 + noise, START, END)) == sorted([START, END])


def test_an_output_row_that_was_never_trained_is_found_though_its_input_was() -> None:
    model = make_model(WORDS, tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight[END] = 0
    assert untrained(model) == [END]


def test_rows_that_were_made_to_fit_are_new_even_alone() -> None:
    short = make_model(WORDS, vocab_size=len(WORDS) - 1)
    words = make_tokenizer()
    known = fit_vocabulary(short, words)
    assert known == len(WORDS) - 1
    last = np.array([len(WORDS) - 1], np.uint16)
    assert token_rows.untrained(short, words, last, known=known) == [len(WORDS) - 1]
    assert untrained(short, known) == []


def test_rows_of_tokens_that_the_plan_adds_are_new_whatever_lies_in_them() -> None:
    """Bases keep rows in reserve, of noise that looks like any other row."""
    model = make_model(WORDS)
    added = np.array([50, 51, len(WORDS) - 1], np.uint16)
    assert token_rows.untrained(model, WORDS, added, known=448) == []
    assert token_rows.untrained(model, WORDS, added, known=448, added=[51, 60]) == [51]


def test_ordinary_words_and_tokens_that_the_data_does_not_hold_are_not_asked() -> None:
    assert untrained(blank(make_model(WORDS), 0.0, 50, int(WORDS.pad_token_id))) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_they_are_trained_and_merged_and_no_other_row_is(tmp_path: Path, tied: bool, dtype: torch.dtype) -> None:
    model = make_model(WORDS, tie_word_embeddings=tied).to(dtype)
    before = sample_logits(model)
    rows = {name: weight.clone() for name, weight in model.state_dict().items() if weight.shape[0] == 448}
    adapted = add_adapter(model, STAGE, ["q_proj"])
    token_rows.attach(adapted, [START, END])
    assert torch.equal(sample_logits(adapted), before)  # type: ignore[arg-type]
    trained = {name: weight for name, weight in adapted.named_parameters() if token_rows.NAME in name}
    assert len(trained) == (1 if tied else 2)
    ids = torch.tensor([[50, START, 51, END]])
    adapted(input_ids=ids).logits[0, :, START].sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained.values())
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in trained.values():
            weight.normal_(std=0.5)
        learned = adapted(input_ids=ids).logits.float()
    weights = {name: weight.detach() for name, weight in adapted.named_parameters() if weight.requires_grad}
    token_rows.save(adapted, weights, tmp_path)
    merged = merge_adapter(adapted)
    delattr(merged, token_rows.NAME)
    merged.get_input_embeddings()._forward_hooks.clear()
    del merged.get_output_embeddings().forward
    token_rows.merge(merged, tmp_path)
    with torch.no_grad():
        tolerance = 1e-4 if dtype == torch.float32 else 0.5
        torch.testing.assert_close(merged(input_ids=ids).logits.float(), learned, atol=tolerance, rtol=tolerance)
    others = [row for row in range(448) if row not in (START, END)]
    for name, weight in rows.items():
        assert torch.equal(merged.state_dict()[name][others], weight[others])
        assert not torch.equal(merged.state_dict()[name][END], weight[END])


def test_an_embedding_that_scales_what_it_looks_up_scales_the_rows_too(tmp_path: Path) -> None:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=448, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32,
    )  # fmt: skip
    model = Gemma3ForCausalLM(config).eval()
    adapted = add_adapter(model, STAGE, ["q_proj"])
    token_rows.attach(adapted, [END])
    ids = torch.tensor([[50, END, 51]])
    rows: Any = model.token_rows
    with torch.no_grad():
        rows.input.normal_()
        learned = adapted(input_ids=ids).logits
    weights = {name: weight.detach() for name, weight in adapted.named_parameters() if weight.requires_grad}
    token_rows.save(adapted, weights, tmp_path)
    fresh = Gemma3ForCausalLM(config).eval()
    fresh.load_state_dict({n.replace(".base_layer", ""): w for n, w in model.state_dict().items()}, strict=False)
    token_rows.merge(fresh, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(fresh(input_ids=ids).logits, learned, atol=1e-4, rtol=1e-4)
