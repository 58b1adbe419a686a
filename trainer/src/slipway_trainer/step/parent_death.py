"""A process that ends with the one that started it, by whatever death: alone it would hold memory and ports for ever.

Two ways, because the kernel knows one parent: a worker of a fork server is that server's child, and the process that
it works for is somebody else.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
from multiprocessing import connection

_PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that the kernel sends to this process when the thread that started it ends."""


def die_with_parent(parent: int, *, exit_code: int) -> None:
    """Makes the kernel kill this process with its parent, and ends it now with the code if that is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It died before the kernel was asked.
        os._exit(exit_code)


def die_with_main_process() -> None:
    """Ends this worker of `multiprocessing` once the process that it works for is gone."""
    threading.Thread(target=_wait_for_main_process, daemon=True).start()


def _wait_for_main_process() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
