"""Where the programs are that the test cluster brings: the counterpart of tools/testcluster/cache.sh."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def program(name: str) -> str:
    """The binary that the test cluster brings, or else the machine's own."""
    cache = Path(os.environ.get("SLIPWAY_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "slipway"))
    built = cache.expanduser() / "testcluster" / "bin" / name
    found = str(built) if built.exists() else shutil.which(name)
    assert found, f"{name} is needed: tools/testcluster/build.sh builds it"
    return found
