"""What is chosen for a model and a machine, and why."""

from dataclasses import replace
from typing import Any

import pytest

from slipway_core.resources.data import StageData
from slipway_core.resources.optimizer import Optimizer
from slipway_core.resources.stage import Batch, Memory, Stage
from slipway_trainer.training.memory import Machine, ModelSize, activation_bytes, choose, moment_bytes, state_bytes

SEVEN_B = ModelSize(7_000_000_000, 7_000_000_000, 32, 4096, 11008, 32000)
SEVEN_B_LORA = ModelSize(7_000_000_000, 20_000_000, 32, 4096, 11008, 32000)
TINY = ModelSize(2_000_000, 2_000_000, 4, 128, 352, 4096)
GIB = 2**30
ADAMW = Optimizer()


def stage(**settings: Any) -> Stage:
    data = StageData.model_validate({"train": [{"uri": "file:///x"}]}, by_alias=True, by_name=False)
    return Stage(name="s", data=data, max_length=settings.pop("max_length", 2048), **settings)


@pytest.mark.parametrize(
    ("size", "precision", "device", "free", "world", "zero", "checkpointing"),
    [
        (TINY, "FP32", "cpu", 16 * GIB, 1, 0, False),
        (TINY, "FP32", "cpu", 16 * GIB, 2, 0, False),
        (TINY, "BF16", "cuda", 24 * GIB, 1, 1, False),
        (TINY, "BF16", "cuda", 24 * GIB, 4, 1, False),
        (SEVEN_B, "BF16", "cuda", 80 * GIB, 8, 2, False),
        (SEVEN_B, "BF16", "cuda", 40 * GIB, 8, 3, False),
        (SEVEN_B, "BF16", "cuda", 24 * GIB, 8, 3, True),
        (SEVEN_B_LORA, "BF16", "cuda", 24 * GIB, 1, 1, True),
    ],
)
def test_choices(
    size: ModelSize, precision: Any, device: str, free: int, world: int, zero: int, checkpointing: bool
) -> None:
    found = choose(size, stage(), precision, Machine(device, free, world), sequences=64)
    assert (found.zero_stage, found.gradient_checkpointing) == (zero, checkpointing)
    assert found.reasons.keys() == {"zeroStage", "gradientCheckpointing", "batch.microSequences"}


def test_what_the_plan_sets_is_taken() -> None:
    settings = stage(
        memory=Memory(zero_stage=2, gradient_checkpointing="Enabled"), batch=Batch(sequences=8, micro_sequences=3)
    )
    found = choose(TINY, settings, "FP32", Machine("cpu", GIB, 1), sequences=8)
    assert (found.zero_stage, found.micro_batch, found.gradient_checkpointing) == (2, 3, True)
    assert set(found.reasons.values()) == {"set in the plan"}


def test_fp16_never_trains_without_its_loss_scale() -> None:
    found = choose(TINY, stage(memory=Memory(zero_stage=0)), "FP16", Machine("cuda", 16 * GIB, 1), sequences=8)
    assert found.zero_stage == 1
    assert "the plan says 0" in found.reasons["zeroStage"]


def test_the_micro_batch_is_no_larger_than_a_ranks_share_and_no_larger_than_fits() -> None:
    assert choose(TINY, stage(max_length=128), "FP32", Machine("cpu", 16 * GIB, 2), sequences=6).micro_batch == 3
    assert choose(TINY, stage(max_length=512), "FP32", Machine("cpu", 16 * GIB, 1), sequences=64).micro_batch == 8
    assert choose(TINY, stage(), "FP32", Machine("cpu", GIB // 4, 1), sequences=64).micro_batch == 1


def test_zero_divides_what_its_stage_says() -> None:
    alone = [state_bytes(SEVEN_B, "BF16", zero, 1, ADAMW) for zero in range(4)]
    assert len(set(alone)) == 1
    eight = [state_bytes(SEVEN_B, "BF16", zero, 8, ADAMW) for zero in range(4)]
    assert eight == sorted(eight, reverse=True)
    assert eight[3] == pytest.approx(alone[3] / 8, rel=0.01)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("AdamW", SEVEN_B, 8 * 7e9),
        # The embedding's in 32 bits, and all others' in 8.
        ("AdamW8bit", SEVEN_B, 8 * 32000 * 4096 + 2.03 * (7e9 - 32000 * 4096)),
        # Two of the embedding and the output layer, and one of all matrices.
        ("Muon", SEVEN_B, 8 * 2 * 32000 * 4096 + 4 * (7e9 - 2 * 32000 * 4096)),
        ("AdamW", SEVEN_B_LORA, 8 * 2e7),
        ("AdamW8bit", SEVEN_B_LORA, 2.03 * 2e7),
        ("Muon", SEVEN_B_LORA, 4 * 2e7),
    ],
)
def test_moments_are_those_of_the_optimizer(name: Any, size: ModelSize, expected: float) -> None:
    optimizer = Optimizer(name=name)
    assert moment_bytes(size, optimizer) == pytest.approx(expected)
    fewer = state_bytes(size, "BF16", 1, 1, ADAMW) - state_bytes(size, "BF16", 1, 1, optimizer)
    assert fewer == pytest.approx(8 * size.trainable - expected)


@pytest.mark.parametrize(("free", "zero"), [(80, 2), (24, 2)])
def test_muon_is_never_given_the_stage_that_cuts_its_matrices(free: int, zero: int) -> None:
    found = choose(SEVEN_B, stage(optimizer=Optimizer(name="Muon")), "BF16", Machine("cuda", free * GIB, 8), 64)
    assert found.zero_stage == zero
    assert ("whole matrices" in found.reasons["zeroStage"]) is (free == 24)


def test_an_adapter_needs_no_optimizer_for_what_is_frozen() -> None:
    assert state_bytes(SEVEN_B_LORA, "BF16", 0, 1, ADAMW) < 1.1 * 2 * SEVEN_B.parameters


def test_computing_activations_twice_needs_less() -> None:
    whole = activation_bytes(SEVEN_B, "BF16", 2048, checkpointing=False)
    assert activation_bytes(SEVEN_B, "BF16", 2048, checkpointing=True) < whole / 4


@pytest.mark.parametrize(
    ("offload", "precision", "world", "zero"),
    [("Optimizer", "FP32", 1, 1), ("Optimizer", "FP32", 4, 1), ("Optimizer", "BF16", 1, 1), ("All", "FP32", 1, 3)],
)
def test_offload_has_the_stage_that_it_needs(offload: Any, precision: Any, world: int, zero: int) -> None:
    settings = stage(memory=Memory(offload=offload))
    found = choose(TINY, settings, precision, Machine("cuda", 24 * GIB, world), sequences=8)
    assert found.zero_stage == zero


def test_what_is_in_pieces_already_stays_so() -> None:
    found = choose(replace(TINY, in_pieces=True), stage(), "FP32", Machine("cpu", 16 * GIB, 2), sequences=8)
    assert found.zero_stage == 3
