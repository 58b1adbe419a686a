"""The programs that the test cluster brings: the counterpart of tools/testcluster/cache.sh and build.sh."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_BUILD = Path(__file__).parents[1] / "tools/testcluster/build.sh"


def folder() -> Path:
    """Where they are kept: outside the checkout, built once a machine."""
    cache = Path(os.environ.get("SLIPWAY_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "slipway"))
    return cache.expanduser() / "testcluster/bin"


def program(name: str) -> str:
    """The binary that the test cluster brings, or else the machine's own."""
    built = folder() / name
    found = str(built) if built.exists() else shutil.which(name)
    assert found, f"{name} is needed: tools/testcluster/build.sh builds it"
    return found


def missing(*names: str) -> list[str]:
    """Returns those that would have to be built."""
    return subprocess.run([_BUILD, "--missing", *names], check=True, capture_output=True, text=True).stdout.split()


def build(*names: str) -> None:
    """Builds what is missing, and waits for whoever builds it already. Raises CalledProcessError with the reason."""
    subprocess.run([_BUILD, *names], check=True, capture_output=True, text=True)
