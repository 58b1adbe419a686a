"""Room for the checkpoints of a stage, looked for before its first step: the last one would be too late."""

from __future__ import annotations

from torch import nn

from slipway_trainer.step import disk_space
from slipway_trainer.training.checkpoints.atomic_checkpoints import Checkpoints

SPARE_BYTES = 16 << 20


def require(model: nn.Module, checkpoints: Checkpoints) -> None:
    """Raises NoSpace when the disk has no room for as many checkpoints as are kept, and the two beside them that are
    written or removed at the same time."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    one = trainable * (4 + 4 + 8) + SPARE_BYTES
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
