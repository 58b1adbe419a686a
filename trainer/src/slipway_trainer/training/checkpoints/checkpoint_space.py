"""Room for the checkpoints of a stage, looked for before its first step: the last one would be too late."""

from __future__ import annotations

from typing import Any

from slipway_core.resources.stage import Stage
from slipway_trainer.step import disk_space
from slipway_trainer.training import model_size
from slipway_trainer.training.checkpoints.atomic_checkpoints import Checkpoints
from slipway_trainer.training.memory_table import moment_bytes

SPARE_BYTES = 16 << 20


def require(model: Any, stage: Stage, checkpoints: Checkpoints) -> None:
    """Raises NoSpace when the disk has no room for as many checkpoints as are kept, and the two beside them that are
    written or removed at the same time."""
    size = model_size.of_model(model, stage)
    # Weights and master weights, in float32, and moments.
    one = size.trainable * (4 + 4) + moment_bytes(size, stage.optimizer) + SPARE_BYTES
    copies = max(1, checkpoints.keep + 2 - len(checkpoints.complete()))
    needed = copies * one
    disk_space.require(
        checkpoints.folder.root,
        needed,
        lambda free: (
            f"{copies} checkpoints take {needed / 2**20:,.0f} MiB and {free / 2**20:,.0f} MiB are free. "
            "Free space there, or lower checkpoints.keep"
        ),
    )
