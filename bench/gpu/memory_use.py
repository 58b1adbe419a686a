"""How much memory a piece of work took at its peak, and what was estimated for it."""

from __future__ import annotations

import gc
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slipway_core.resources.stage import Stage
from slipway_trainer.training import memory_table
from slipway_trainer.training.memory_table import Setup
from slipway_trainer.training.model_shape import ModelSize


@dataclass(frozen=True)
class Peak:
    """Of a device, from when it is made. On a CPU the kernel's count of this process, above what it had then."""

    device: torch.device
    before: int

    @classmethod
    def start(cls, device: torch.device) -> Peak:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            return cls(device, torch.cuda.memory_allocated(device))
        # Without the right to, the peak of the process so far stays, and what is told is too much at most.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return cls(device, _of_process("VmRSS"))

    @property
    def bytes(self) -> int:
        used = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _of_process("VmHWM")
        return max(0, used - self.before)


def _of_process(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def estimated(size: ModelSize, stage: Stage, device: str, precision: str, zero_stage: int, rows: int) -> int:
    """Returns bytes that one process is thought to need on the device beside what it begins with, activations kept."""
    chosen: Any = precision
    setup = Setup(device, chosen, 1, zero_stage, rows, gradient_checkpointing=False)
    return sum(part.device for part in memory_table.of_stage(size, stage, setup).parts if part.name != "process")
