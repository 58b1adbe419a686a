"""Weights that are written some at a time, and the model that is loaded from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer.tiny_model import make_model, make_tokenizer
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from slipway_trainer.model import weight_files

SMALL = 150_000


def mixture() -> Any:
    """Files of this family have a matrix an expert, and the model all experts in one tensor."""
    torch.manual_seed(0)
    return MixtralForCausalLM(
        MixtralConfig(
            vocab_size=320,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            num_local_experts=4,
        )
    )


def dense() -> Any:
    return make_model(make_tokenizer(), num_hidden_layers=11)


def write(model: Any, folder: Path, most: int) -> list[int]:
    """Returns how many bytes were asked for at once."""
    state, asked = model.state_dict(), []

    def gather(names: list[str]) -> dict[str, torch.Tensor]:
        found = {name: state[name].clone() for name in names}
        asked.append(sum(weight.nbytes for weight in found.values()))
        return found

    weight_files.write(model, folder, weight_files.split(model, most), gather)
    return asked


@pytest.mark.parametrize("make", [dense, mixture])
@pytest.mark.parametrize("most", [SMALL, 1 << 30])
def test_what_is_written_in_parts_is_the_model(tmp_path: Path, make: Any, most: int) -> None:
    model = make()
    asked = write(model, tmp_path, most)
    assert max(asked) <= most
    assert (len(asked) > 2) is (most == SMALL)
    loaded, report = AutoModelForCausalLM.from_pretrained(str(tmp_path), output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    found, wanted = loaded.state_dict(), model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())


@pytest.mark.parametrize("make", [dense, mixture])
def test_parts_have_the_names_and_the_index_that_transformers_writes(tmp_path: Path, make: Any) -> None:
    model = make()
    write(model, tmp_path / "ours", SMALL)
    model.save_pretrained(str(tmp_path / "theirs"), max_shard_size=SMALL)
    ours, theirs = (
        json.loads((tmp_path / name / "model.safetensors.index.json").read_text()) for name in ("ours", "theirs")
    )
    assert ours["weight_map"].keys() == theirs["weight_map"].keys()
    assert ours["metadata"]["total_size"] == theirs["metadata"]["total_size"]
    assert (tmp_path / "ours" / "config.json").read_text() == (tmp_path / "theirs" / "config.json").read_text()


def test_one_file_is_byte_for_byte_what_transformers_writes(tmp_path: Path) -> None:
    model = dense()
    write(model, tmp_path / "ours", 1 << 30)
    model.save_pretrained(str(tmp_path / "theirs"))
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


def test_blocks_stay_together_and_a_tied_weight_is_there_once() -> None:
    files = weight_files.split(dense(), SMALL)
    names = [name for file in files for name in file]
    assert len(names) == len(set(names))
    assert "lm_head.weight" not in names
    for block in range(11):
        assert sum(any(name.startswith(f"model.layers.{block}.") for name in file) for file in files) == 1
