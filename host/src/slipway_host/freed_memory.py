"""Memory that a process has freed, given back to the kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Has the C library return what was freed to the kernel; nothing where it cannot (it is glibc's own).

    Its heap keeps holes of blocks of up to 32 MiB: who allocates a large block, keeps a part of it and frees the rest,
    again and again, ends with as much memory as if nothing had been freed.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
