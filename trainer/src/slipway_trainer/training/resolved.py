"""What the first attempt of a stage decided on its device; later attempts reuse it, so that a retry never trains
another way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from slipway_host.files import write_atomically
from slipway_trainer.training.precision import Precision


@dataclass(frozen=True)
class Resolved:
    precision: Precision
    zero_stage: int
    micro_batch: int
    gradient_checkpointing: bool
    attention: str
    target_modules: list[str] | None
    world_size: int
    """Of the attempt that wrote it; a later one may have another."""
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

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n")

    def halved(self) -> Resolved:
        """Returns the same with half the micro batch: the steps are the same, each takes less memory."""
        half = max(1, self.micro_batch // 2)
        reason = f"{self.micro_batch} rows at once ran out of memory"
        return replace(self, micro_batch=half, reasons=self.reasons | {"batch.microSequences": reason})


def read(path: Path) -> Resolved | None:
    """Returns what was decided; None when nothing was yet, or when it was written by a version that differs."""
    try:
        return Resolved(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
