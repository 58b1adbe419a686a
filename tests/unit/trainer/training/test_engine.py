"""DeepSpeed's configuration for every precision and ZeRO stage."""

from typing import Any

import pytest
import torch

from slipway_trainer.training import engine
from slipway_trainer.training.engine import Ranks, configuration, owns_clipping


def made(precision: Any, zero: int, **changes: Any) -> dict[str, Any]:
    settings = {"micro_batch": 4, "max_grad_norm": 1.0, "world": 2} | changes
    return configuration(precision=precision, zero_stage=zero, **settings)


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["FP32", "BF16", "FP16"])
def test_every_combination_clips_exactly_once(precision: Any, zero: int) -> None:
    config = made(precision, zero)
    assert config["zero_optimization"]["stage"] == zero
    assert (config["gradient_clipping"] == 1.0) is not owns_clipping(precision, zero)
    assert config["train_batch_size"] == 8
    assert ("bf16" in config) is (precision == "BF16")
    assert ("fp16" in config) is (precision == "FP16")


def test_only_plain_fp32_is_clipped_by_the_loop() -> None:
    assert owns_clipping("FP32", 0)
    assert not owns_clipping("FP32", 1)
    assert not owns_clipping("BF16", 0)


def test_half_precision_adds_gradients_up_in_float32() -> None:
    assert made("BF16", 1)["data_types"] == {"grad_accum_dtype": "fp32"}


def test_fp16_scales_its_loss_dynamically() -> None:
    assert made("FP16", 1)["fp16"]["loss_scale"] == 0


def test_ranks_are_what_the_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert Ranks.from_environment() == Ranks(3, 4, 1, 2)
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.delenv("RANK")
    assert Ranks.from_environment() == Ranks()


@pytest.mark.parametrize(
    ("device", "built_for", "built", "used"),
    [
        ("cpu", "cpu", True, True),
        ("cpu", "cpu", False, False),
        ("cuda", "cpu", True, False),
        ("cpu", "cuda", True, False),
    ],
)
def test_the_operator_for_shared_memory_is_used_where_it_was_built_ahead_and_compiled_nowhere(
    device: str, built_for: str, built: bool, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepspeed import git_version_info

    monkeypatch.setattr(git_version_info, "accelerator_name", built_for)
    monkeypatch.setitem(git_version_info.installed_ops, "deepspeed_shm_comm", built)
    assert engine.built_ahead(torch.device(device)) is used
