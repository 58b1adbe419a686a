"""Every token is scored once, and what cannot be scored is never a number."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.trainer.tiny_model import TEXTS, make_exported

from slipway_trainer.evaluation import perplexity
from slipway_trainer.evaluation.perplexity import Score, windows
from slipway_trainer.model.exported_model import ExportedModel

NAMES = {"perplexity", "bits_per_byte", "word_perplexity", "byte_perplexity"}


@pytest.fixture(scope="module")
def model() -> ExportedModel:
    return make_exported(positions=32)


def _score(**changes: object) -> Score:
    values: dict = {
        "nll": 100.0, "tokens": 50, "bytes": 200, "words": 20, "documents": 2, "prefix_token": "<s>", "window": 32,
    }  # fmt: skip
    return Score(**(values | changes))


@given(tokens=st.lists(st.integers(1, 99), max_size=60), window=st.integers(1, 20))
def test_every_token_is_a_target_once_and_sees_only_what_stands_before_it(tokens: list[int], window: int) -> None:
    prefix, place = 0, 0
    for piece in windows(tokens, prefix, window):
        assert 1 <= len(piece.targets) <= len(piece.inputs) <= window
        assert list(piece.targets) == tokens[place : place + len(piece.targets)]
        place += len(piece.targets)
        # The input ends one token before the last target.
        assert list(piece.inputs) == [prefix, *tokens][place - len(piece.inputs) : place]
    assert place == len(tokens)


def _by_hand(model: ExportedModel, text: str, window: int) -> float:
    """The sum of a document that fits, one token at a time."""
    tokens: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
    assert len(tokens) <= window
    context, total = [perplexity.prefix_token(model.tokenizer)], 0.0
    for token in tokens:
        with torch.no_grad():
            logits = model.model(input_ids=torch.tensor([context])).logits[0, -1].double()
        total -= float(logits.log_softmax(-1)[token])
        context.append(token)
    return total


def test_the_figures_are_those_of_scoring_one_token_at_a_time(model: ExportedModel) -> None:
    texts = ["床前明月光", "a fox", "x", TEXTS[1][:9]]
    found = perplexity.score(model.model, model.tokenizer, texts)
    expected = sum(_by_hand(model, text, found.window) for text in texts)
    assert found.nll == pytest.approx(expected, rel=1e-6)
    metrics, missing = found.figures
    assert missing == {}
    assert metrics["perplexity"] == pytest.approx(math.exp(expected / found.tokens), rel=1e-5)
    size = sum(len(text.encode()) for text in texts)
    assert metrics["bits_per_byte"] == pytest.approx(expected / size / math.log(2), rel=1e-6)


def test_batching_padding_and_order_change_nothing(model: ExportedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text * repeats for repeats in (1, 2, 5) for text in TEXTS]
    together = perplexity.score(model.model, model.tokenizer, texts)
    monkeypatch.setattr(perplexity, "BATCH_TOKENS", 1)
    alone = perplexity.score(model.model, model.tokenizer, texts[::-1])
    assert together.nll == pytest.approx(alone.nll, rel=1e-6)
    assert (
        together.tokens
        == alone.tokens
        == sum(
            len(model.tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in texts  # type: ignore[arg-type]
        )
    )


def test_the_same_data_gives_the_same_number_bit_for_bit(model: ExportedModel) -> None:
    first, second = (perplexity.score(model.model, model.tokenizer, list(TEXTS)) for _ in range(2))
    assert first == second


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary() -> None:
    uniform = make_exported(positions=32)
    with torch.no_grad():
        uniform.model.get_output_embeddings().weight.zero_()
    metrics, _ = perplexity.score(uniform.model, uniform.tokenizer, list(TEXTS)).figures
    assert metrics["perplexity"] == pytest.approx(uniform.model.config.vocab_size, rel=1e-5)


def test_no_special_token_is_added(model: ExportedModel) -> None:
    assert perplexity.score(model.model, model.tokenizer, ["x"]).tokens == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_that_gives_no_numbers_has_no_figures(value: float) -> None:
    broken = make_exported(positions=32)
    with torch.no_grad():
        broken.model.get_output_embeddings().weight[7] = value
    found = perplexity.score(broken.model, broken.tokenizer, list(TEXTS))
    metrics, missing = found.figures
    assert metrics == {}
    assert missing.keys() == NAMES
    assert "NaN or infinite" in missing["perplexity"]
    assert found.not_finite > 0


def test_no_text_is_no_figure(model: ExportedModel) -> None:
    for documents in ([], [""], ["", ""]):
        metrics, missing = perplexity.score(model.model, model.tokenizer, documents).figures
        assert metrics == {}
        assert "no token was scored" in missing["bits_per_byte"]


def test_a_figure_above_the_largest_number_is_left_out_and_the_others_are_kept() -> None:
    metrics, missing = _score(nll=1000.0, words=1).figures
    assert missing.keys() == {"word_perplexity"}
    assert metrics.keys() == NAMES - {"word_perplexity"}


def test_bands() -> None:
    assert [perplexity.band(value) for value in (1.0, 19.99, 20.0, 49.9, 50.0, 1e9, None, math.nan)] == [
        "good", "good", "fair", "fair", "poor", "poor", None, None,
    ]  # fmt: skip


def test_the_window_is_the_models_own_limit_up_to_a_most(model: ExportedModel) -> None:
    config = type(model.model.config)(max_position_embeddings=1 << 17)
    assert perplexity.longest_input(config, model.tokenizer) == perplexity.MAX_WINDOW
    assert perplexity.longest_input(model.model.config, model.tokenizer) == 32


@settings(max_examples=20)
@given(st.lists(st.text("月光ab \n", min_size=0, max_size=40), max_size=6))
def test_any_text_is_counted_whole(model: ExportedModel, texts: list[str]) -> None:
    found = perplexity.score(model.model, model.tokenizer, texts)
    assert found.bytes == sum(len(text.encode()) for text in texts)
    assert found.documents == len(texts)
    assert math.isfinite(found.nll)
