"""What the first attempt of a stage decided on its device; later attempts reuse it, so that a retry never trains
another way. Only what fits is decided anew, for another number of processes: it changes nothing that is learned."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from slipway_host.files import write_atomically
from slipway_trainer.training.precision import Precision

_OF_PROCESSES = ("attempt", "world_size", "zero_stage", "micro_batch", "gradient_checkpointing", "compile")


@dataclass(frozen=True)
class Resolved:
    precision: Precision
    zero_stage: int
    micro_batch: int
    gradient_checkpointing: bool
    attention: str
    target_modules: list[str] | None
    world_size: int
    """Processes that it was decided for."""
    sequences: int
    total_rows: int
    total_steps: int
    data_digest: str
    packed: bool = True
    """Whether documents share rows; else each is computed in one of its own, and a step learns the same. Asked of the
    model by every attempt: a file of a version that did not ask does not have it."""
    compile: bool = False
    """Whether the blocks of the model are compiled: a file of a version that compiled none does not have it."""
    versions: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why, by the field of the plan."""
    attempt: int = 1
    """Number of the one that decided it for these processes."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """What was decided for other numbers of processes before, and why; the oldest first."""

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n")

    def halved(self) -> Resolved:
        """Returns the same with half the micro batch: the steps are the same, each takes less memory."""
        half = max(1, self.micro_batch // 2)
        reason = f"{self.micro_batch} rows at once ran out of memory"
        return replace(self, micro_batch=half, reasons=self.reasons | {"batch.microSequences": reason})

    def for_processes(
        self,
        world_size: int,
        *,
        attempt: int,
        zero_stage: int,
        micro_batch: int,
        gradient_checkpointing: bool,
        compile: bool,
        reasons: dict[str, str],
    ) -> Resolved:
        """Returns the same for another number of processes; what was decided before goes into the history."""
        before = {name: getattr(self, name) for name in _OF_PROCESSES}
        before["reasons"] = {name: self.reasons[name] for name in reasons if name in self.reasons}
        return replace(
            self,
            world_size=world_size,
            attempt=attempt,
            zero_stage=zero_stage,
            micro_batch=micro_batch,
            gradient_checkpointing=gradient_checkpointing,
            compile=compile,
            reasons=self.reasons | reasons,
            history=[*self.history, before],
        )


def read(path: Path) -> Resolved | None:
    """Returns what was decided; None when nothing was yet, or when it was written by a version that differs."""
    try:
        return Resolved(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
