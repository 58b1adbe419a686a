"""A tokenizer and a Llama that are made within a second."""

from __future__ import annotations

import json
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.tokens import tokenizer

TEXTS = (
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "It was the best of times, it was the worst of times.",
)


def make_tokenizer(style: tokenizer.Style = "ChatML", *, max_length: int = 128) -> PreTrainedTokenizerFast:
    made = tokenizer.train(TEXTS * 2, vocabulary=400, max_length=max_length)
    tokenizer.give_template(made, style)
    return made


def with_a_hole(
    words: PreTrainedTokenizerFast, *, token: str | None = None, id_: int = 66000
) -> PreTrainedTokenizerFast:
    """The same tokenizer, of which one token (the last one, if none is named) has an id far above the others."""
    document = json.loads(words.backend_tokenizer.to_str())
    vocabulary = document["model"]["vocab"]
    vocabulary[token or max(vocabulary, key=vocabulary.__getitem__)] = id_
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(document)),
        **{name: str(value) for name, value in words.special_tokens_map.items() if isinstance(value, str)},
    )
    made.chat_template = words.chat_template
    return made


def make_model(
    words: PreTrainedTokenizerFast, *, positions: int = 128, seed: int = 0, **config: Any
) -> LlamaForCausalLM:
    """Two layers, hidden 64; weights ten times larger than usual, so that its predictions differ from uniform."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": -(-len(words) // 64) * 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": positions,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    return LlamaForCausalLM(LlamaConfig(**(settings | config))).eval()


def make_exported(*, positions: int = 128, seed: int = 0, **config: Any) -> ExportedModel:
    words = make_tokenizer()
    return ExportedModel(make_model(words, positions=positions, seed=seed, **config), words, tokenizer.end_ids(words))


def teach(exported: ExportedModel, question: str, answer: str, *, steps: int = 60) -> None:
    """Trains the model until it gives this answer to this question."""
    words, model = exported.tokenizer, exported.model
    prompt = words.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = words(f"{prompt}{answer}<|im_end|>", add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
    batch = torch.tensor([ids])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
