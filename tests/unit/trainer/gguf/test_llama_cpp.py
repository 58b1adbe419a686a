"""What llama.cpp itself makes of a file: the logits, the tokens and the chat template are those of the artifact."""

from __future__ import annotations

import importlib
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer.gguf.test_write import LLAMA3, SAMPLES, an_artifact, make_model, rounded, written
from tests.unit.trainer.tiny_model import make_tokenizer
from tokenizers import Regex, pre_tokenizers

STRETCHED = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
TEXTS = [
    *SAMPLES, "Hello  world\n\n\nfoo", "   lead", "trail   ", "a\r\nb\r\n", "\n", " \n \n", "a_b__c", "??!!...---",
    "CAN'T don'T I'LL we'Ve ſ'ſ it’s", "x=12345678 and 3.14, 12３４ １２３٤٥٦ ½ ² ³", "Ünïcödé naïve e\u0301",
    "日本語テスト", "😀👩‍👩‍👧 end", "a\u00a0b\u2003c\u200bd", "def f(x):\n    return x  # c", "𝔘𝔫𝔦 ᏣᎳᎩ ꭰ",
]  # fmt: skip


@contextmanager
def served(folder: Path) -> Iterator[Any]:
    """Gives a function that asks llama.cpp's own server: a path, and what is sent there."""
    llama: Any = importlib.import_module("xllamacpp")
    settings = llama.CommonParams()
    settings.model.path = str(folder / "model.gguf")
    settings.n_ctx, settings.n_parallel, settings.cpuparams.n_threads, settings.warmup = 256, 1, 1, False
    server: Any = llama.Server(settings)

    def ask(path: str, **told: Any) -> Any:
        request = urllib.request.Request(server.listening_address + path, json.dumps(told).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    yield ask


@pytest.mark.parametrize(
    ("family", "config"),
    [("llama", {}), ("llama", {"rope_parameters": STRETCHED}), ("mistral", {"head_dim": 32}), ("qwen2", {})],
)
def test_it_computes_what_the_artifact_computes(family: str, config: dict[str, Any], tmp_path: Path) -> None:
    words = make_tokenizer()
    model = make_model(words, family, max_position_embeddings=256, **config)
    folder = written(an_artifact(tmp_path, model, words))
    rounded(model, "F16")
    tokens = torch.randint(5, len(words) - 5, (120,), generator=torch.Generator().manual_seed(1))
    compared = 0
    with served(folder) as ask, torch.no_grad():
        for length in range(2, 121, 9):
            expected = model(tokens[None, :length]).logits[0, -1].log_softmax(-1)
            sent = {"prompt": tokens[:length].tolist(), "n_predict": 1, "n_probs": 20, "temperature": 0}
            # It says nothing of a token that is a part of a character.
            for told in ask("/completion", **sent, cache_prompt=False).get("completion_probabilities", ()):
                ids = [one["id"] for one in told["top_logprobs"]]
                found = torch.tensor([one["logprob"] for one in told["top_logprobs"]])
                # It keeps keys and values in half precision.
                torch.testing.assert_close(found, expected[ids], atol=0.05, rtol=0)
                compared += 1
    assert compared >= 3


def by(pattern: str) -> Any:
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    return pre_tokenizers.Sequence(parts)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "qwen2", "smaug-bpe", "llama-bpe"])
def test_it_splits_texts_as_the_tokenizer_does_and_renders_its_template(name: str, tmp_path: Path) -> None:
    words = make_tokenizer()
    backend: Any = words.backend_tokenizer
    if name == "smollm":
        parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
        backend.pre_tokenizer = pre_tokenizers.Sequence(parts)  # pyright: ignore[reportArgumentType]
    elif name != "gpt-2":
        backend.pre_tokenizer = by(LLAMA3.replace("{1,3}", "") if name == "qwen2" else LLAMA3)
        backend.model.ignore_merges = name == "llama-bpe"
    model = make_model(words, "qwen2" if name == "qwen2" else "llama")
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi\nyou"}]
    with served(written(an_artifact(tmp_path, model, words))) as ask:
        for text in TEXTS:
            found = ask("/tokenize", content=text, add_special=False, parse_special=True)["tokens"]
            assert found == words(text, add_special_tokens=False).input_ids, text
        assert ask("/tokenize", content="a", add_special=True)["tokens"] == words("a").input_ids
        rendered = ask("/apply-template", messages=turns)["prompt"]
        prompt = ask("/tokenize", content=rendered, add_special=True, parse_special=True)["tokens"]
    assert prompt == words.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
