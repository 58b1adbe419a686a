"""The memory that a stage of a plan takes on a device, as it is shown before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway_core.plan import Plan
from slipway_core.protocol.preview import MemoryPart, MemoryView
from slipway_core.resources.stage import Stage
from slipway_trainer.training import memory, memory_limits
from slipway_trainer.training.devices import Device
from slipway_trainer.training.memory import Machine
from slipway_trainer.training.model_shape import ModelSize

if TYPE_CHECKING:
    from slipway_trainer.training.precision import Precision


def view(plan: Plan, stage: Stage, size: ModelSize, device: Device, sequences: int, processes: int) -> MemoryView:
    """
    Args:
        sequences: packed rows of a step, of all processes.
        processes: of the stage.
    """
    precision = precision_on(stage, device)
    machine = machine_of(plan, device, processes)
    choice = memory.choose(size, stage, precision, machine, sequences)
    table = memory.table_of(size, stage, precision, machine, choice)
    return MemoryView(
        parts=[MemoryPart(name=part.name, device=part.device, host=part.host) for part in table.parts],
        kind=device.kind,
        processes=processes,
        available=machine.free_bytes,
        zero_stage=choice.zero_stage,
        micro_batch=choice.micro_batch,
        gradient_checkpointing=choice.gradient_checkpointing,
        precision=precision,
        offload=stage.memory.offload,
        reasons=choice.reasons,
        refused=memory_limits.refusal(size, stage, precision, machine, sequences, choice),
    )


def processes_of(plan: Plan) -> int:
    return plan.compute.nodes * plan.compute.processes_per_node


def machine_of(plan: Plan, device: Device, processes: int) -> Machine:
    """Returns what a process has: a GPU, or its share of the CPU's memory."""
    if device.kind == "cuda":
        return Machine("cuda", device.memory, processes)
    return Machine("cpu", device.memory // -(-processes // plan.compute.nodes), processes)


def precision_on(stage: Stage, device: Device) -> Precision:
    """Returns the precision of a stage on a device."""
    if stage.precision != "Auto":
        return stage.precision
    return "FP32" if device.kind == "cpu" else device.half
