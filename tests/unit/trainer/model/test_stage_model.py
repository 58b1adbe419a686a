"""Models from scratch and from folders, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer.tiny_model import TEXTS, make_model, make_tokenizer, with_a_hole

from slipway_core.resources.model import Scratch
from slipway_trainer.evaluation import perplexity
from slipway_trainer.model import stage_model
from slipway_trainer.model.new_model import scratch_config
from slipway_trainer.model.scratch_shape import rounded
from slipway_trainer.model.vocabulary import fit_vocabulary
from slipway_trainer.step.errors import BadArtifact, BadModel


def scratch(**settings: Any) -> Scratch:
    fields = {"hiddenSize": 64, "heads": 2, "layers": 2, "tokenizer": {"train": {}}} | settings
    return Scratch.model_validate(fields, by_alias=True, by_name=False)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
def test_a_new_model_has_the_shape_that_was_asked_for(architecture: Any) -> None:
    words = make_tokenizer()
    config = scratch_config(scratch(architecture=architecture, kvHeads=1, ropeTheta=5000), words)
    assert config.model_type == architecture
    assert config.vocab_size % 64 == 0
    assert 0 <= config.vocab_size - len(words) < 64
    assert (config.hidden_size, config.num_hidden_layers) == (64, 2)
    assert (config.num_attention_heads, config.num_key_value_heads) == (2, 1)
    assert config.intermediate_size == 192
    assert config.rope_parameters["rope_theta"] == 5000
    assert config.eos_token_id == words.eos_token_id
    assert config.tie_word_embeddings
    assert getattr(config, "sliding_window", None) is None


def test_new_tokens_start_as_the_mean_of_the_old_ones() -> None:
    words = make_tokenizer()
    model = make_model(words, vocab_size=320)
    old = model.get_input_embeddings().weight.detach().clone()
    fit_vocabulary(model, words)
    new = model.get_input_embeddings().weight
    assert new.shape[0] == rounded(len(words))
    torch.testing.assert_close(new[320:], old.mean(0).expand(len(new) - 320, -1))
    assert torch.equal(new[:320], old)
    assert model.get_output_embeddings().weight is new


def test_a_vocabulary_is_as_large_as_its_largest_id_where_it_has_holes() -> None:
    words = with_a_hole(make_tokenizer())
    assert scratch_config(scratch(), words).vocab_size == rounded(66001) >= 66001
    model = make_model(make_tokenizer())
    fit_vocabulary(model, words)
    assert model.get_input_embeddings().weight.shape[0] == rounded(66001)
    score = perplexity.score(model, words, TEXTS)
    assert score.not_finite == 0
    with pytest.raises(BadArtifact, match=r"the tokenizer writes the id 66000, and the model has \d+ rows"):
        perplexity.score(make_model(make_tokenizer()), words, TEXTS)


def test_a_vocabulary_that_fits_is_left_alone() -> None:
    words = make_tokenizer()
    model = make_model(words)
    before = model.get_input_embeddings().weight
    fit_vocabulary(model, words)
    assert model.get_input_embeddings().weight is before


def saved(folder: Path) -> Path:
    make_model(make_tokenizer()).save_pretrained(str(folder))
    return folder


def test_a_folder_loads_in_the_dtype_that_was_asked_for(tmp_path: Path) -> None:
    assert stage_model.load_folder(saved(tmp_path), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadModel, match=r"holds no \*\.safetensors"):
        stage_model.load_folder(folder, dtype=torch.float32)


def test_remote_code_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadModel, match="trustRemoteCode: true"):
        stage_model.load_folder(folder, dtype=torch.float32)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"has no config\.json"):
        stage_model.load_folder(tmp_path, dtype=torch.float32)
    folder = saved(tmp_path / "cut")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadModel, match="cannot be loaded"):
        stage_model.load_folder(folder, dtype=torch.float32)
