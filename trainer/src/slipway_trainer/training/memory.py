"""What fits: ZeRO stage, gradient checkpointing and micro batch from the memory table of a stage.

When the table is wrong all the same, the micro batch is halved and the stage goes on from its last checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slipway_core.resources.stage import Stage
from slipway_host.limits import available_memory, resident_memory
from slipway_trainer.training import activations, memory_table
from slipway_trainer.training.memory_table import MemoryTable, Setup, state_bytes
from slipway_trainer.training.model_shape import ModelSize

if TYPE_CHECKING:
    from slipway_trainer.training.precision import Precision

__all__ = [
    "Choice",
    "Machine",
    "ModelSize",
    "activation_bytes",
    "choose",
    "free_bytes",
    "host_bytes",
    "machine_of",
    "setup_of",
    "state_bytes",
    "table_of",
]

USABLE = 0.9
"""Share of the memory that is planned with where the plan leaves a choice; the table is within 15 % of the peak."""
CPU_TOKENS = 4096
"""Tokens of a micro batch on a CPU: more are no faster, because the caches are small."""
LARGEST_MICRO_BATCH = 64


@dataclass(frozen=True)
class Machine:
    device: str
    """cpu or cuda."""
    free_bytes: int
    """Of one process: what it holds, and what is free, divided by the processes that share it."""
    world: int
    host_bytes: int | None = None
    """The same of the host's memory, beside a GPU; None where it is not known."""


@dataclass(frozen=True)
class Choice:
    zero_stage: int
    micro_batch: int
    gradient_checkpointing: bool
    reasons: dict[str, str]
    """Why, by the field of the plan."""


def choose(size: ModelSize, stage: Stage, precision: Precision, machine: Machine, sequences: int) -> Choice:
    """Decides what the plan leaves `Auto`.

    What does not fit even at its smallest is decided too: `memory_limits.refuse` says what would make it fit.

    Args:
        sequences: packed rows of a step, of all processes.
    """
    reasons: dict[str, str] = {}
    usable = int(machine.free_bytes * USABLE)
    smallest = _smallest(size, stage, precision, machine, usable, reasons)
    micro = _micro_batch(size, stage, smallest, machine, usable, sequences, reasons)
    return Choice(smallest.zero_stage, micro, smallest.gradient_checkpointing, reasons)


def setup_of(choice: Choice, stage: Stage, precision: Precision, machine: Machine) -> Setup:
    """Returns a choice as the table takes it."""
    return Setup(
        device=machine.device,
        precision=precision,
        world=machine.world,
        zero_stage=choice.zero_stage,
        micro_batch=choice.micro_batch,
        gradient_checkpointing=choice.gradient_checkpointing,
        offload=stage.memory.offload,
    )


def table_of(size: ModelSize, stage: Stage, precision: Precision, machine: Machine, choice: Choice) -> MemoryTable:
    """Returns the memory table of a choice."""
    return memory_table.of_stage(size, stage, setup_of(choice, stage, precision, machine))


def activation_bytes(size: ModelSize, precision: Precision, tokens: int, *, checkpointing: bool) -> int:
    """Returns bytes on a GPU of what the backward pass needs of a micro batch, and of the loss in the output layer."""
    blocks = activations.of_blocks(size, precision, tokens, checkpointing=checkpointing)
    return blocks + activations.of_output(size, precision, tokens, "cuda")


def _smallest(
    size: ModelSize, stage: Stage, precision: Precision, machine: Machine, usable: int, reasons: dict[str, str]
) -> Setup:
    """Returns the first setup that fits with the fewest rows at once; the one of the least memory where none does."""
    stages = _zero_stages(size, stage, precision, machine, reasons)
    again = _checkpointing(stage, reasons)
    rows = stage.batch.micro_sequences or 1
    # A stage that divides more talks more; to compute a third again costs more than that.
    order = [(zero, twice) for twice in again for zero in stages]
    tried: list[tuple[Setup, int]] = []
    for zero, twice in order:
        setup = Setup(machine.device, precision, machine.world, zero, rows, twice, stage.memory.offload)
        needed = memory_table.of_stage(size, stage, setup).device
        tried.append((setup, needed))
        if needed <= usable:
            break
    else:
        tried.append(min(tried, key=lambda one: one[1]))
    setup, needed = tried[-1]
    fits = needed <= usable
    # The rows at once are chosen after it, and take more.
    at_once = f"{rows} row{'s' * (rows > 1)} at once"
    said = f"{_gib(needed)} a process with {at_once} {'fit' if fits else 'do not fit'} into {_gib(usable)}"
    reasons.setdefault("zeroStage", said if fits else f"{said}{_why_not_in_pieces(size, stage, machine)}")
    kept = [count for one, count in tried if not one.gradient_checkpointing]
    reasons.setdefault(
        "gradientCheckpointing",
        f"with all activations kept {_gib(min(kept))} a process, of {_gib(usable)}"
        if setup.gradient_checkpointing and kept
        else said,
    )
    return setup


def _why_not_in_pieces(size: ModelSize, stage: Stage, machine: Machine) -> str:
    """Returns why weights were not divided, where that would help."""
    if machine.world == 1:
        return ""
    if stage.optimizer.name == "Muon":
        return ", but Muon needs whole matrices, and stage 3 cuts them"
    return f", but {size.in_one_piece}" if size.in_one_piece else ""


def _zero_stages(
    size: ModelSize, stage: Stage, precision: Precision, machine: Machine, reasons: dict[str, str]
) -> list[int]:
    """Returns the ZeRO stages that may be taken, the one that divides least first."""
    asked = stage.memory
    if precision == "FP16" and asked.zero_stage == 0:
        # Its gradients would be divided by a loss scale that the loss was never multiplied by (DeepSpeed 0.19.8).
        reasons["zeroStage"] = "the plan says 0, but DeepSpeed scales an fp16 loss from stage 1 on"
        return [1]
    if asked.zero_stage != "Auto":
        reasons["zeroStage"] = "set in the plan"
        return [int(asked.zero_stage)]
    if asked.offload == "All":
        reasons["zeroStage"] = "memory.offload: All moves weights in pieces"
        return [3]
    if size.in_pieces:
        # Decided before they were loaded, by the memory that was free then.
        reasons["zeroStage"] = "weights and optimizer fit a process only in pieces"
        return [3]
    # DeepSpeed's ZeRO 1 and 2 add up half-precision gradients in float32, its stage 0 does not, nor does that offload.
    least = 0 if precision == "FP32" and asked.offload == "None" else 1
    if machine.world == 1:
        reasons["zeroStage"] = (
            "one process has nothing to share"
            if asked.offload == "None"
            else "memory.offload: Optimizer needs ZeRO, whose stage 2 has the gradients in the host's memory too"
        )
        return [least] if asked.offload == "None" else [1, 2]
    if stage.optimizer.name == "Muon":
        # It needs whole matrices, and stage 3 cuts them.
        return list(range(least, 3))
    return list(range(least, 3 if size.in_one_piece else 4))


def _checkpointing(stage: Stage, reasons: dict[str, str]) -> list[bool]:
    """Returns whether activations are kept or computed twice, what is faster first."""
    if stage.memory.gradient_checkpointing != "Auto":
        reasons["gradientCheckpointing"] = "set in the plan"
        return [stage.memory.gradient_checkpointing == "Enabled"]
    if stage.adapter is not None and stage.adapter.method == "Prefix":
        reasons["gradientCheckpointing"] = "a layer that is computed twice forgets the prefix before it"
        return [False]
    return [False, True]


def _micro_batch(
    size: ModelSize,
    stage: Stage,
    smallest: Setup,
    machine: Machine,
    usable: int,
    sequences: int,
    reasons: dict[str, str],
) -> int:
    if stage.batch.micro_sequences is not None:
        reasons["batch.microSequences"] = "set in the plan"
        return stage.batch.micro_sequences
    mine = -(-sequences // machine.world)
    most = max(1, CPU_TOKENS // stage.max_length) if machine.device == "cpu" else LARGEST_MICRO_BATCH
    micro = 1
    while micro * 2 <= most and micro < mine:
        if memory_table.of_stage(size, stage, replace(smallest, micro_batch=micro * 2)).device > usable:
            break
        micro *= 2
    micro = min(micro, mine)
    reasons["batch.microSequences"] = f"{mine} rows a process and step, at most {most} at once"
    return micro


def free_bytes(device_type: str, local_world: int) -> int:
    """Returns the memory that one process may have, with what it holds already: of its GPU, or its share of the
    machine's or container's."""
    if device_type == "cuda":
        import torch

        # The table has CUDA's context too, which is neither free nor of torch.
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() + memory_table.CONTEXT
    return host_bytes(local_world)


def host_bytes(local_world: int) -> int:
    """Returns the host's memory that one process may have, with what it holds already."""
    return available_memory() // max(1, local_world) + resident_memory()


def machine_of(device_type: str, world: int, local_world: int) -> Machine:
    """Returns what a process of this machine has."""
    host = host_bytes(local_world) if device_type == "cuda" else None
    return Machine(device_type, free_bytes(device_type, local_world), world, host)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
