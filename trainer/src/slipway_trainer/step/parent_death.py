"""A process that ends with the one that started it, by whatever death: alone it would hold memory and ports for ever.

Two ways, because the kernel knows one parent: a worker of a fork server is that server's child, and the process that
it works for is somebody else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection

from slipway_host.parent import end_with


def die_with_parent(parent: int, *, exit_code: int) -> None:
    """Makes the kernel kill this process with its parent, and ends it now with the code if that is gone already."""
    if not end_with(parent, signal.SIGKILL):
        os._exit(exit_code)


def die_with_main_process() -> None:
    """Ends this worker of `multiprocessing` once the process that it works for is gone."""
    threading.Thread(target=_wait_for_main_process, daemon=True).start()


def _wait_for_main_process() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
