"""A script as the ranks of one training."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable


def run(script: str, arguments: Callable[[int], list[str]], *, seconds: float, world: int = 2) -> None:
    """Runs a script with the arguments of each rank, and fails with what a rank said that failed."""
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, script, *arguments(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        for rank in ranks:
            out, _ = rank.communicate(timeout=seconds)
            assert rank.returncode == 0, out
    finally:
        for rank in ranks:
            rank.kill()
