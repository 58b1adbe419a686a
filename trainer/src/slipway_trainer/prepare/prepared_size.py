"""How much room the prepared data takes, and whether the disk has it."""

from __future__ import annotations

from pathlib import Path

from slipway_trainer.data.inputs import Inputs
from slipway_trainer.step import disk_space

SPACE_PER_BYTE, SPARE_BYTES = 1.5, 64 << 20
"""A byte of text becomes at most about half a token, of 2 or 4 bytes and one for its mask."""
SKETCHES_PER_BYTE = 0.5
"""Of text of which near rows are looked for: a row has two sketches, and about half a kilobyte of text."""


def needed_bytes(found: Inputs) -> int:
    """Returns about how many bytes will be written."""
    near = [stage for stage in found.stages.values() if stage.deduplicate == "Near"]
    sketches = sum(file.text_bytes for stage in near for file in stage.files) * SKETCHES_PER_BYTE
    return int(found.text_bytes * SPACE_PER_BYTE + sketches) + SPARE_BYTES


def check_space(folder: Path, *, needed: int) -> None:
    """Raises NoSpace that says what is needed and what is free."""
    disk_space.require(
        folder,
        needed,
        lambda free: (
            f"preparing the data needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free. "
            "Free space there, or give the run a workspace on a larger disk"
        ),
    )
