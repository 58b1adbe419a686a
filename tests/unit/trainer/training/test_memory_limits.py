"""What is refused before it starts, and what would make it fit."""

from typing import Any

import pytest

from slipway_core.resources.data import StageData
from slipway_core.resources.optimizer import Optimizer
from slipway_core.resources.stage import Adapter, Batch, Memory, Stage
from slipway_trainer.training import memory_limits
from slipway_trainer.training.memory import Machine, choose
from slipway_trainer.training.memory_table import MemoryTable, Part
from slipway_trainer.training.model_shape import ModelSize

GIB = 2**30
B = 10**9
EIGHT_B = ModelSize(8 * B, 8 * B, 32, 4096, 14336, 128256, heads=32, queries=4096, keys=1024)


def stage(**settings: Any) -> Stage:
    data = StageData.model_validate({"train": [{"uri": "file:///x"}]}, by_alias=True, by_name=False)
    return Stage(name="s", data=data, max_length=settings.pop("max_length", 2048), **settings)


def refused(settings: Stage, gib: int, world: int = 1, *, device: str = "cuda", host: int | None = None) -> str | None:
    machine = Machine(device, gib * GIB, world, None if host is None else host * GIB)
    choice = choose(EIGHT_B, settings, "BF16", machine, sequences=64)
    return memory_limits.refusal(EIGHT_B, settings, "BF16", machine, 64, choice)


@pytest.mark.parametrize(
    ("settings", "gib", "world", "named", "advice"),
    [
        # What the plan has fixed is named, and let go first.
        ({"batch": Batch(micro_sequences=64)}, 32, 8, "the plan sets batch.microSequences", "batch.microSequences: 1"),
        (
            {"max_length": 16384, "memory": Memory(gradient_checkpointing="Disabled")},
            80,
            8,
            "the plan sets memory.gradientCheckpointing",
            "memory.gradientCheckpointing: Auto",
        ),
        ({"memory": Memory(zero_stage=1)}, 40, 8, "the plan sets memory.zeroStage", "memory.zeroStage: Auto"),
        ({}, 80, 1, "ZeRO stage 1, 1 process", "memory.offload: Optimizer"),
        ({"optimizer": Optimizer(name="Muon")}, 80, 1, "optimizer", "4 devices"),
        ({"optimizer": Optimizer(name="AdamW8bit")}, 24, 1, "gradients", "8 devices"),
    ],
)
def test_what_cannot_fit_on_a_gpu_is_refused_with_the_smallest_change(
    settings: dict[str, Any], gib: int, world: int, named: str, advice: str
) -> None:
    said = refused(stage(**settings), gib, world)
    assert said is not None
    assert said.startswith("stages[s]: does not fit into the GPU's memory: a process needs ")
    assert f"and has {gib}.0 GiB" in said
    assert named in said
    assert f"{advice}" in said
    assert said.endswith("would make it fit")


def test_what_fits_is_not_refused() -> None:
    assert refused(stage(), 80, 8) is None
    assert refused(stage(adapter=Adapter()).model_copy(update={"adapter": None}), 141, 2) is None


def test_what_nothing_makes_fit_says_so() -> None:
    said = refused(stage(max_length=1_000_000, memory=Memory(gradient_checkpointing="Enabled")), 4)
    assert said is not None
    assert "take devices with more memory" in said


def test_on_a_cpu_only_what_is_certain_is_refused() -> None:
    state = (2 + 4 + 8 + 4) * 8 * B / GIB
    assert refused(stage(), int(state) + 2, device="cpu") is None
    said = refused(stage(), int(state) - 2, device="cpu")
    assert said is not None
    assert f"needs {state:.1f} GiB for weights, gradients and optimizer" in said
    assert "adapter: {method: LoRA} would make it fit" in said


def test_an_offload_without_the_hosts_memory_is_refused_with_both_numbers() -> None:
    offloaded = stage().model_copy(update={"memory": Memory().model_copy(update={"offload": "Optimizer"})})
    assert refused(offloaded, 80, host=200) is None
    said = refused(offloaded, 80, host=64)
    assert said is not None
    assert "does not fit into the host's memory" in said
    assert "needs 119.2 GiB for what memory.offload puts there and has 64.0 GiB" in said


def test_a_table_that_may_be_wrong_is_tried() -> None:
    machine = Machine("cuda", 100, 1)
    assert memory_limits.shortage(MemoryTable((Part("weights", 114),)), machine) is None
    assert memory_limits.shortage(MemoryTable((Part("weights", 116),)), machine) is not None
