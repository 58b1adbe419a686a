"""What cannot fit is refused before it starts, with the numbers and the smallest change that would make it fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slipway_core.resources.stage import Adapter, Stage
from slipway_trainer.training import memory
from slipway_trainer.training.memory import Choice, Machine
from slipway_trainer.training.memory_table import MemoryTable
from slipway_trainer.training.model_shape import ModelSize

if TYPE_CHECKING:
    from slipway_trainer.training.precision import Precision

WRONG_BY = 0.15
"""Of the table: what is above the memory by more than that does not fit for certain."""
MOST_DEVICES = 1024
_DEVICES = "devices (compute.nodes × processesPerNode)"


@dataclass(frozen=True)
class Shortage:
    """What is missing."""

    what: str
    """device or host."""
    needed: int
    there: int
    parts: str
    """What is counted, in words."""


def shortage(table: MemoryTable, machine: Machine) -> Shortage | None:
    """Returns what is certain to be missing; None where the stage may be tried.

    A CPU's free memory is soft (caches give way, others end), so there only parts that are certain count. A GPU's is
    all that there is: all of the table counts, less what it may be wrong by.
    """
    if machine.device == "cpu":
        if table.certain_device > machine.free_bytes:
            return Shortage("device", table.certain_device, machine.free_bytes, "weights, gradients and optimizer")
        return None
    if table.device > machine.free_bytes * (1 + WRONG_BY):
        return Shortage("device", table.device, machine.free_bytes, "all parts")
    if machine.host_bytes is not None and table.certain_host > machine.host_bytes:
        return Shortage("host", table.certain_host, machine.host_bytes, "what memory.offload puts there")
    return None


def refusal(
    size: ModelSize, stage: Stage, precision: Precision, machine: Machine, sequences: int, choice: Choice
) -> str | None:
    """Returns why a stage cannot be trained with what was chosen, and what would; None where it may be tried."""
    table = memory.table_of(size, stage, precision, machine, choice)
    missing = shortage(table, machine)
    if missing is None:
        return None
    host = missing.what == "host"
    place = "the host's memory" if host else "memory" if machine.device == "cpu" else "the GPU's memory"
    largest = sorted(table.parts, key=lambda part: -(part.host if host else part.device))[:3]
    told = ", ".join(f"{part.name} {_gib(part.host if host else part.device)}" for part in largest)
    return (
        f"stages[{stage.name}]: does not fit into {place}: a process needs {_gib(missing.needed)} for {missing.parts} "
        f"and has {_gib(missing.there)} ({told}; ZeRO stage {choice.zero_stage}, {machine.world} process(es), micro "
        f"batch {choice.micro_batch}{_set_in_plan(stage)}). {_advice(size, stage, precision, machine, sequences)}"
    )


def _set_in_plan(stage: Stage) -> str:
    """Returns which of the settings the plan has fixed."""
    memory_of = stage.memory
    fixed = {
        "memory.zeroStage": memory_of.zero_stage != "Auto",
        "memory.gradientCheckpointing": memory_of.gradient_checkpointing == "Disabled",
        "memory.offload": memory_of.offload != "None",
        "batch.microSequences": (stage.batch.micro_sequences or 1) > 1,
    }
    names = [name for name, is_fixed in fixed.items() if is_fixed]
    return f"; the plan sets {', '.join(names)}" if names else ""


def _advice(size: ModelSize, stage: Stage, precision: Precision, machine: Machine, sequences: int) -> str:
    """Returns the smallest change that makes it fit, in words."""
    for words, changed, other, on in _changes(size, stage, machine):
        choice = memory.choose(other, changed, precision, on, sequences)
        if memory.table_of(other, changed, precision, on, choice).device <= on.free_bytes * memory.USABLE and (
            shortage(memory.table_of(other, changed, precision, on, choice), on) is None
        ):
            return f"{words} would make it fit"
    return "Nothing here makes it fit: take devices with more memory, a smaller model or a smaller maxLength"


def _changes(size: ModelSize, stage: Stage, machine: Machine) -> Iterator[tuple[str, Stage, ModelSize, Machine]]:
    """Yields changes, the one that costs least first: in words, and the stage, the model and the devices with it."""
    words: list[str] = []
    freed = stage
    for named, changed in _freed(stage, machine):
        words.append(named)
        freed = changed
        yield " and ".join(words), freed, size, machine
    on_gpu = machine.device != "cpu"
    auto = _with(freed, memory={"zero_stage": "Auto"})
    offloads = ("Optimizer",) if size.in_one_piece else ("Optimizer", "All")
    if on_gpu and stage.optimizer.name == "AdamW" and stage.memory.offload == "None":
        for offload in offloads:
            offloaded = _with(auto, memory={"offload": offload})
            yield " and ".join([*words, f"memory.offload: {offload}"]), offloaded, size, machine
    if on_gpu:
        fixed = auto.memory != freed.memory
        for world in _more(machine.world):
            named = [*words, *(["memory.zeroStage: Auto"] if fixed else []), f"{world} {_DEVICES}"]
            yield " and ".join(named), auto, size, replace(machine, world=world)
    if stage.adapter is None:
        adapted = freed.model_copy(update={"adapter": Adapter()})
        yield " and ".join([*words, "adapter: {method: LoRA}"]), adapted, _with_adapter(size), machine


def _freed(stage: Stage, machine: Machine) -> Iterator[tuple[str, Stage]]:
    """Yields what the plan sets and could leave out: in words, and the stage without it and what came before."""
    if (stage.batch.micro_sequences or 1) > 1:
        stage = _with(stage, batch={"micro_sequences": 1})
        yield "batch.microSequences: 1", stage
    if stage.memory.gradient_checkpointing == "Disabled":
        stage = _with(stage, memory={"gradient_checkpointing": "Auto"})
        yield "memory.gradientCheckpointing: Auto", stage
    if stage.memory.zero_stage not in ("Auto", 3) and machine.world > 1:
        stage = _with(stage, memory={"zero_stage": "Auto"})
        yield "memory.zeroStage: Auto", stage


def _more(world: int) -> Iterator[int]:
    """Yields numbers of devices above one."""
    while (world := world * 2) <= MOST_DEVICES:
        yield world


def _with_adapter(size: ModelSize) -> ModelSize:
    """Returns about what LoRA of rank 8 on every linear layer makes of a model."""
    layers = size.layers
    widths = 4 * (size.hidden + size.query_width) + 3 * (size.hidden + size.intermediate)
    return replace(
        size,
        trainable=8 * layers * widths,
        adapted=7 * layers,
        rank=8,
        adapted_outputs=layers * (size.query_width + 2 * size.key_width + 2 * size.hidden + 2 * size.intermediate),
        kept_inputs=layers * (2 * size.hidden + size.query_width + size.intermediate),
        trains_output=False,
    )


def _with(stage: Stage, **parts: dict[str, Any]) -> Stage:
    """Returns a stage with other fields in some of its parts."""
    return stage.model_copy(
        update={name: getattr(stage, name).model_copy(update=fields) for name, fields in parts.items()}
    )


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
