"""The number of an attempt, as a fence against the writers of older ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway_host.files import write_atomically
from slipway_trainer.step.errors import (
    Superseded,
)


@dataclass(frozen=True)
class Fence:
    """Keeps the writers of an older attempt out of the workspace."""

    path: Path
    attempt: int

    def raise_(self) -> None:
        """Claims the step for this attempt. Raises Superseded when a newer one has it."""
        self.check()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, f"{self.attempt}\n")

    def check(self) -> None:
        """Raises Superseded when a newer attempt has the step. Call it before what cannot be taken back."""
        try:
            newest = int(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return
        if newest > self.attempt:
            raise Superseded(f"attempt {newest} has taken over from attempt {self.attempt}")
