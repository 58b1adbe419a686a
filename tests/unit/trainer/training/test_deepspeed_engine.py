"""DeepSpeed's configuration for every precision and ZeRO stage."""

from typing import Any

import pytest
from torch import nn

from slipway_trainer.training.deepspeed_engine import configuration, fit_bucket, owns_clipping


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


@pytest.mark.parametrize(("device", "world", "expected"), [("cuda", 2, True), ("cuda", 1, False), ("cpu", 2, False)])
@pytest.mark.parametrize("zero", [1, 2])
def test_gpus_add_gradients_up_while_they_compute(zero: int, device: str, world: int, expected: bool) -> None:
    assert made("BF16", zero, device=device, world=world)["zero_optimization"]["overlap_comm"] is expected


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_the_bucket_is_no_larger_than_all_gradients(zero: int) -> None:
    config, module = made("BF16", zero), nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2, bias=False))
    module[0].bias.requires_grad = False
    fit_bucket(config, module)
    assert config["zero_optimization"].get("reduce_bucket_size") == (25 if zero else None)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("offload", "moved"),
    [("None", set()), ("Optimizer", {"offload_optimizer"}), ("All", {"offload_optimizer", "offload_param"})],
)
def test_what_is_offloaded_lies_in_the_hosts_memory_and_is_pinned_for_a_gpu(
    offload: str, moved: set[str], device: str
) -> None:
    config = made("BF16", 3, offload=offload, device=device)
    places = {name: place for name, place in config["zero_optimization"].items() if name.startswith("offload")}
    assert places == {name: {"device": "cpu", "pin_memory": device == "cuda"} for name in moved}
    # DeepSpeed would ask for its own AdamW, which it compiles.
    assert config.get("zero_force_ds_cpu_optimizer") is (False if moved else None)
