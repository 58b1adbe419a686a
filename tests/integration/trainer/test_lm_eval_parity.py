"""Slipway's perplexity is lm-eval's rolling log-likelihood, to six digits, on a model and text made here."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.unit.trainer.tiny_model import TEXTS, make_exported, make_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from slipway_trainer.evaluation import perplexity
from slipway_trainer.model.exported_model import ExportedModel

WINDOW = 32
DOCUMENTS = [
    TEXTS[0],
    TEXTS[2],
    " ".join(TEXTS * 3),  # several windows, mixed languages
    TEXTS[1] * 7,
    "月",
    "x",  # one token
    " ",
    "\n\n",
    "",
    "The dog.\n\n  And\tthe   fox.",
    "  \n leading and trailing white space \t \n",
    "    indented, cafe\u0301\r\n",
    "emoji 🙂 and a long-ish tail of words " * 5,
    "ab" * 16,
    "ab" * 17,
]


def _qwen2(words: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = make_model(words, positions=WINDOW).config.to_dict() | {"model_type": "qwen2", "architectures": None}
    return Qwen2ForCausalLM(Qwen2Config.from_dict(config))


def _gpt2(words: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Learned positions, LayerNorm and biases: nothing of it is a Llama's."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=-(-len(words) // 64) * 64, n_positions=WINDOW, n_embd=64, n_layer=2, n_head=2,
            initializer_range=0.2, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        )
    )  # fmt: skip


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt2"])
def exported(request: pytest.FixtureRequest) -> ExportedModel:
    made = make_exported(positions=WINDOW)
    torch.manual_seed(0)
    other = {"qwen2": _qwen2, "gpt2": _gpt2}.get(request.param)
    return made if other is None else replace(made, model=other(made.tokenizer).eval())


@pytest.fixture(scope="module")
def harness(exported: ExportedModel) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=exported.model, tokenizer=exported.tokenizer, batch_size=4, device="cpu", add_bos_token=False
    )


def _log_likelihoods(harness: Any, documents: list[str]) -> list[float]:
    return harness.loglikelihood_rolling([SimpleNamespace(args=(text,)) for text in documents], disable_tqdm=True)


def _figures(documents: list[str], log_likelihoods: list[float], tokens: int) -> dict[str, float]:
    """lm-eval's aggregations, by its own functions."""
    from lm_eval.api.metrics import bits_per_byte, weighted_perplexity

    by_bytes = [(ll, len(text.encode())) for ll, text in zip(log_likelihoods, documents, strict=True)]
    by_words = [(ll, len(re.split(r"\s+", text))) for ll, text in zip(log_likelihoods, documents, strict=True)]
    return {
        "bits_per_byte": bits_per_byte(by_bytes),
        "byte_perplexity": weighted_perplexity(by_bytes),
        "word_perplexity": weighted_perplexity(by_words),
        "perplexity": math.exp(-sum(log_likelihoods) / tokens),
    }


def test_every_figure_equals_lm_evals_to_six_digits(exported: ExportedModel, harness: Any) -> None:
    tokens = sum(len(harness.tok_encode(text)) for text in DOCUMENTS)
    expected = _figures(DOCUMENTS, _log_likelihoods(harness, DOCUMENTS), tokens)
    found = perplexity.score(exported.model, exported.tokenizer, DOCUMENTS)
    assert found.tokens == tokens
    assert found.window == harness.max_length
    metrics, missing = found.figures
    assert missing == {}
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        # An exponential shows a digit of its exponent less: a perplexity of 1e13 has 30 there.
        shown = 1.0 if name == "bits_per_byte" else max(1.0, math.log(value))
        assert metrics[name] == pytest.approx(value, rel=5e-7 * shown), name


@pytest.mark.parametrize("text", DOCUMENTS)
def test_every_document_has_lm_evals_log_likelihood(exported: ExportedModel, harness: Any, text: str) -> None:
    found = perplexity.score(exported.model, exported.tokenizer, [text])
    assert -found.nll == pytest.approx(_log_likelihoods(harness, [text])[0], rel=1e-6)


def test_a_tokenizer_without_bos_starts_with_eos_as_in_lm_eval(exported: ExportedModel) -> None:
    from lm_eval.models.huggingface import HFLM

    made = make_exported(positions=WINDOW)
    made.tokenizer.bos_token = None
    harness = HFLM(pretrained=made.model, tokenizer=made.tokenizer, batch_size=2, device="cpu", add_bos_token=False)
    found = perplexity.score(made.model, made.tokenizer, DOCUMENTS)
    assert found.prefix_token == "</s>"
    assert -found.nll == pytest.approx(sum(_log_likelihoods(harness, DOCUMENTS)), rel=5e-7)
