"""A process that ends with its parent, however that ends: left alone it would hold memory, ports and locks."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # prctl(2)
# Loaded here and not in the function, which may run between fork and exec, where nothing should be loaded.
_LIBC = ctypes.CDLL(None, use_errno=True)


def end_with(parent: int, number: signal.Signals) -> bool:
    """Has the kernel send this process a signal when its parent ends.

    `parent` is the pid that the parent had when it made this process. Returns whether it is still there: where it is
    not, it ended before the kernel was asked, and no signal will come.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))
    return os.getppid() == parent
