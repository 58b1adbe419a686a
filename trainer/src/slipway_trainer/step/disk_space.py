"""Room on the disk, asked for before anything is written: a step that runs out of it halfway has wasted its time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from slipway_trainer.step.errors import NoSpace

_BLOCK = 512
"""Bytes of what st_blocks counts."""


def taken(folder: Path) -> int:
    """Returns the bytes that files below a folder take on the disk; 0 where there is none. Holes take none: a file that
    is fetched in ranges is as long as its object from the start."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found += os.lstat(os.path.join(place, name)).st_blocks * _BLOCK
            except FileNotFoundError:
                continue  # It has just got its own name, or is gone.
    return found


def require(folder: Path, needed: int, problem: Callable[[int], str]) -> None:
    """Raises NoSpace when a folder, which is made if it is not there, has fewer free bytes than needed.

    Args:
        problem: from the free bytes to what is told behind the folder's name: how much is missing, and the fix.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoSpace(f"{folder}: {problem(free)}")
