"""A model as files in the format of Hugging Face: the same weights give the same bytes, and nothing in them is of this
machine.
"""

from __future__ import annotations

import json
from pathlib import Path

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from slipway_trainer.tokens import tokenizer

SHARD_SIZE = 5_000_000_000
"""Bytes of weights that a file has at most, unless one weight is larger."""
SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")
DEFAULT_SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.95}
# What transformers adds when a tokenizer comes from a folder: about this machine, and part of the digest if kept.
_LOCAL_FIELDS = ("is_local", "local_files_only", "name_or_path")


def write_model(model: PreTrainedModel, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes weights, configuration and tokenizer in the format of Hugging Face. The folder must not exist.

    Tied weights are written once. `generation_config.json` lists every token that ends an answer: vLLM takes
    `eos_token_id` from there and stops at each of them (`SamplingParams.update_from_generation_config`).
    """
    write_words(model, words, folder)
    model.config.use_cache = True
    model.generation_config = _generation_config(model.generation_config, words)
    model.save_pretrained(str(folder), max_shard_size=SHARD_SIZE)


def write_words(model: PreTrainedModel, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the tokenizer and what ends an answer of a model, without the model. The folder must not exist."""
    write_tokenizer(words, model.generation_config, folder)


def write_tokenizer(words: PreTrainedTokenizerFast, own: GenerationConfig | None, folder: Path) -> None:
    """Writes the same of a model that has this generation_config.json. The folder must not exist."""
    folder.mkdir(parents=True)
    _generation_config(own, words).save_pretrained(str(folder))
    tokenizer.save(words, folder)
    _drop_local_fields(folder / "tokenizer_config.json")


def _generation_config(config: GenerationConfig | None, words: PreTrainedTokenizerFast) -> GenerationConfig:
    """Returns the model's own sampling settings or ours, and what ends an answer: the run's end tokens, and its own.

    A limit on the length is left out: vLLM would take it for the most that any request may ask for.
    """
    own = config.to_diff_dict() if config else {}
    ends = own.get("eos_token_id")
    ends = [*tokenizer.end_ids(words), *(ends if isinstance(ends, list) else [ends])]
    sampling = {name: own[name] for name in SAMPLING if own.get(name) is not None} or DEFAULT_SAMPLING
    if not sampling.get("do_sample"):
        sampling = {name: value for name, value in sampling.items() if name == "repetition_penalty"}
    return GenerationConfig(
        bos_token_id=words.bos_token_id,
        eos_token_id=[end for end in dict.fromkeys(ends) if isinstance(end, int)],
        pad_token_id=words.pad_token_id,
        **sampling,
    )


def _drop_local_fields(path: Path) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if name not in _LOCAL_FIELDS}
    path.write_text(json.dumps(kept, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
