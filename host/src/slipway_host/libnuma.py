"""libnuma.so.1, which vLLM's CPU kernels need, no Python package brings, and a small system may lack."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys


def load() -> bool:
    """Loads it for all that this process loads later. Returns whether it is there; on other processors than x86 nothing
    needs it."""
    if platform.machine() != "x86_64":
        return True
    for name in ("libnuma.so.1", os.path.join(sys.prefix, "lib", "libnuma.so.1")):
        with contextlib.suppress(OSError):
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            return True
    return False
