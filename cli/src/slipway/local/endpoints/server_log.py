"""The log of a server: bounded, and asked for the line that says why it ended."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from slipway.last_words import of_lines

LIMIT = 8 << 20
"""Bytes that a log may have before its older half moves aside."""
_TAIL = 1 << 16


def bound(path: Path, limit: int = LIMIT) -> None:
    """Moves a log that has grown too long to `<name>.1`, in place: its writer appends and goes on."""
    if not path.exists() or path.stat().st_size <= limit:
        return
    with contextlib.suppress(OSError):  # On a full disk the log goes all the same.
        shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)


def last_words(path: Path, start: int = 0) -> str | None:
    """Returns the line of a log that says best why its writer ended, None when it said nothing.

    Args:
        start: the log's size when the writer started; what is before was said by another one.
    """
    return of_lines(_tail(path, start))


def _tail(path: Path, start: int) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            begin = start if start <= size else 0  # It was bounded meanwhile.
            file.seek(max(begin, size - _TAIL))
            return file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
