"""A written model that does not compute what the one in memory computes is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_trainer.model.logit_check import check_written, sample_logits
from slipway_trainer.model.model_files import write_model
from slipway_trainer.step.errors import BadExport


def _damage(folder: Path, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(str(path))
    change(tensors)
    save_file(tensors, str(path), metadata={"format": "pt"})


def _empty(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(0)


def _lost(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


def _zeroed(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"].zero_()


def _extra(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.9.mlp.up_proj.weight"] = torch.zeros(2, 2)


@pytest.mark.parametrize("change", [_empty, _lost, _zeroed, _extra])
def test_a_weight_that_was_lost_on_the_way_is_noticed(tmp_path: Path, change: Any) -> None:
    words = make_tokenizer()
    model = make_model(words)
    expected = sample_logits(model)
    write_model(model, words, tmp_path / "a")
    _damage(tmp_path / "a", change)
    with pytest.raises(BadExport):
        check_written(tmp_path / "a", expected, torch.float32)


def test_a_model_of_nan_is_written_and_left_to_its_evaluation(tmp_path: Path) -> None:
    words = make_tokenizer()
    model = make_model(words)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    expected = sample_logits(model)
    write_model(model, words, tmp_path / "a")
    check_written(tmp_path / "a", expected, torch.float32)
    with pytest.raises(BadExport):
        check_written(tmp_path / "a", torch.zeros_like(expected), torch.float32)
