"""A process beside a step that is asked through a pipe, and ends with the block that uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

_END_SECONDS = 20.0
"""That a process has to end by itself once nobody asks it any more."""


@contextmanager
def ending(process: BaseProcess, connection: Any) -> Iterator[None]:
    """Ends a process with the block: by closing its pipe, and at once where the block was left by an error."""
    try:
        yield
    except BaseException:
        # In the midst of something that nobody waits for any more.
        process.kill()
        raise
    finally:
        connection.close()
        process.join(_END_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
