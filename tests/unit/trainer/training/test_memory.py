"""What is chosen for a model and a machine, and why."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from slipway_core.resources.data import StageData
from slipway_core.resources.optimizer import Optimizer
from slipway_core.resources.stage import Batch, Memory, Stage
from slipway_trainer.training import memory, memory_table
from slipway_trainer.training.memory import Machine, choose, table_of
from slipway_trainer.training.model_shape import ModelSize

SEVEN_B = ModelSize(7_000_000_000, 7_000_000_000, 32, 4096, 11008, 32000)
SEVEN_B_LORA = ModelSize(
    7_000_000_000, 20_000_000, 32, 4096, 11008, 32000, adapted=224, rank=8, kept_inputs=32 * 23296, trains_output=False
)
TINY = ModelSize(2_000_000, 2_000_000, 4, 128, 352, 4096)
GIB = 2**30


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
        (SEVEN_B, "BF16", "cuda", 80 * GIB, 8, 1, False),
        (SEVEN_B, "BF16", "cuda", 40 * GIB, 8, 3, False),
        (SEVEN_B, "BF16", "cuda", 24 * GIB, 8, 3, True),
        (SEVEN_B_LORA, "BF16", "cuda", 40 * GIB, 1, 1, False),
        (SEVEN_B_LORA, "BF16", "cuda", 24 * GIB, 1, 1, True),
    ],
)
def test_choices(
    size: ModelSize, precision: Any, device: str, free: int, world: int, zero: int, checkpointing: bool
) -> None:
    machine = Machine(device, free, world)
    found = choose(size, stage(), precision, machine, sequences=64)
    assert (found.zero_stage, found.gradient_checkpointing) == (zero, checkpointing)
    assert found.reasons.keys() == {"zeroStage", "gradientCheckpointing", "batch.microSequences"}
    assert table_of(size, stage(), precision, machine, found).device <= memory.USABLE * free


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


def test_what_fits_is_told_with_the_rows_at_once_that_it_is_of() -> None:
    """Four rows at once took 5.2 GiB, and the reason beside it spoke of 2.4 without saying of what."""
    found = choose(TINY, stage(max_length=512), "FP32", Machine("cpu", 16 * GIB, 1), sequences=64)
    assert found.micro_batch == 8
    assert "a process with 1 row at once fit into" in found.reasons["gradientCheckpointing"]


@pytest.mark.parametrize(("free", "zero"), [(80, 1), (24, 2)])
def test_muon_is_never_given_the_stage_that_cuts_its_matrices(free: int, zero: int) -> None:
    found = choose(SEVEN_B, stage(optimizer=Optimizer(name="Muon")), "BF16", Machine("cuda", free * GIB, 8), 64)
    assert found.zero_stage == zero
    assert ("whole matrices" in found.reasons["zeroStage"]) is (free == 24)


def test_weights_in_one_piece_are_not_divided() -> None:
    size = ModelSize(10**9, 10**6, 2, 64, 128, 400, four_bit_weights=10**9, in_one_piece="it is of 4 bits")
    found = choose(size, stage(), "BF16", Machine("cuda", 10**8, 4), 4)
    assert found.zero_stage < 3
    assert "it is of 4 bits" in found.reasons["zeroStage"]


@pytest.mark.parametrize(
    ("offload", "precision", "world", "zero"),
    [("Optimizer", "FP32", 1, 1), ("Optimizer", "FP32", 4, 1), ("Optimizer", "BF16", 1, 1), ("All", "FP32", 1, 3)],
)
def test_offload_has_the_stage_that_it_needs(offload: Any, precision: Any, world: int, zero: int) -> None:
    settings = stage(memory=Memory(offload=offload))
    found = choose(TINY, settings, precision, Machine("cuda", 24 * GIB, world), sequences=8)
    assert found.zero_stage == zero


def test_more_memory_never_chooses_what_is_slower() -> None:
    def cost(gib: int) -> tuple[bool, bool, int, int]:
        machine = Machine("cuda", gib * GIB, 8)
        found = choose(SEVEN_B, stage(), "BF16", machine, sequences=512)
        fits = table_of(SEVEN_B, stage(), "BF16", machine, found).device <= memory.USABLE * machine.free_bytes
        # More rows at once are a gain only beside the same stage and checkpointing.
        return not fits, found.gradient_checkpointing, found.zero_stage, -found.micro_batch

    costs = [cost(gib) for gib in (16, 20, 24, 32, 40, 48, 64, 80, 141, 192)]
    assert all(later <= earlier for earlier, later in pairwise(costs))
    assert costs[0] > costs[-1]


def test_a_process_may_have_what_it_holds_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 8 * GIB)
    monkeypatch.setattr(memory, "resident_memory", lambda: GIB)
    assert memory.free_bytes("cpu", 2) == 5 * GIB


def test_weights_that_are_on_a_gpu_already_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 16 * GIB)
    assert memory.free_bytes("cuda", 8) == 76 * GIB + memory_table.CONTEXT


def test_what_is_in_pieces_already_stays_so() -> None:
    found = choose(replace(TINY, in_pieces=True), stage(), "FP32", Machine("cpu", 16 * GIB, 2), sequences=8)
    assert found.zero_stage == 3
