"""What is written of a model: every weight once, and what ends an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from transformers import GenerationConfig

from slipway_trainer.model import exported_model, model_files
from slipway_trainer.model.logit_check import check_written, sample_logits
from slipway_trainer.model.model_files import write_model


def _keys(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(str(path), "pt") as file:
            names |= set(file.keys())
    return names


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_output_layer_is_written_once_and_an_untied_one_is_kept(tmp_path: Path, tied: bool) -> None:
    words = make_tokenizer()
    model = make_model(words, tie_word_embeddings=tied)
    expected = sample_logits(model)
    write_model(model, words, tmp_path / "a")
    assert ("lm_head.weight" in _keys(tmp_path / "a")) is not tied
    check_written(tmp_path / "a", expected, torch.float32)


def test_large_weights_are_written_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "SHARD_SIZE", 100_000)
    words = make_tokenizer()
    model = make_model(words)
    expected = sample_logits(model)
    write_model(model, words, tmp_path / "a")
    assert len(list((tmp_path / "a").glob("*.safetensors"))) > 1
    check_written(tmp_path / "a", expected, torch.float32)


def test_every_token_that_ends_an_answer_is_named_and_no_length_is(tmp_path: Path) -> None:
    words = make_tokenizer()
    model = make_model(words)
    model.generation_config = GenerationConfig(max_new_tokens=7, max_length=9, do_sample=True, temperature=0.3)
    write_model(model, words, tmp_path / "a")
    settings = json.loads((tmp_path / "a" / "generation_config.json").read_text())
    assert set(settings["eos_token_id"]) == {words.eos_token_id, words.convert_tokens_to_ids("<|im_end|>")}
    assert settings["temperature"] == 0.3
    assert not settings.keys() & {"max_new_tokens", "max_length"}
    write_model(make_model(words), words, tmp_path / "b")
    settings = json.loads((tmp_path / "b" / "generation_config.json").read_text())
    assert (settings["do_sample"], settings["temperature"], settings["top_p"]) == (True, 0.7, 0.95)


def test_the_base_models_own_end_tokens_and_penalty_are_written_and_judged(tmp_path: Path) -> None:
    words = make_tokenizer()
    model = make_model(words)
    model.generation_config = GenerationConfig(eos_token_id=[7, words.eos_token_id], repetition_penalty=1.3)
    write_model(model, words, tmp_path / "a")
    settings = json.loads((tmp_path / "a" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [words.convert_tokens_to_ids("<|im_end|>"), words.eos_token_id, 7]
    found = exported_model.load(tmp_path / "a", dtype=torch.float32)
    assert found.end_tokens == sorted(settings["eos_token_id"])
    assert found.repetition_penalty == settings["repetition_penalty"] == 1.3


def test_a_greedy_base_stays_greedy(tmp_path: Path) -> None:
    words = make_tokenizer()
    model = make_model(words)
    model.generation_config = GenerationConfig(do_sample=False, repetition_penalty=1.1)
    write_model(model, words, tmp_path / "a")
    settings = json.loads((tmp_path / "a" / "generation_config.json").read_text())
    assert settings["repetition_penalty"] == 1.1
    assert "temperature" not in settings
