"""Room on the disk, asked for before anything is written: a step that runs out of it halfway has wasted its time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from slipway_trainer.step.errors import NoSpace


def require(folder: Path, needed: int, problem: Callable[[int], str]) -> None:
    """Raises NoSpace when a folder, which is made if it is not there, has fewer free bytes than needed.

    Args:
        problem: from the free bytes to what is told behind the folder's name: how much is missing, and the fix.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoSpace(f"{folder}: {problem(free)}")
