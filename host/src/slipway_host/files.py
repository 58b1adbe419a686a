"""Files and folders that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file, in a folder that is there. Raises OSError that names it (a full disk, say), and leaves the old
    one as it was."""
    try:
        _replace(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        # Writing to an open file says only what went wrong, not where.
        raise OSError(error.errno, error.strerror, str(path)) from error


def json_lines(rows: Iterable[Any]) -> str:
    """Returns rows as JSON Lines: each on a line of its own, letters as they are."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _replace(path: Path, content: bytes) -> None:
    # Two processes, or two threads of one, may write the same file at once: the last rename wins, whole.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Makes the content of a file, or the renames in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Makes a folder and everything in it durable."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync(Path(root, name))
        sync(Path(root))


def replace_folder(temporary: Path, place: Path) -> None:
    """Puts a folder that is durable already into its place in one rename; what was there before is gone."""
    shutil.rmtree(place, ignore_errors=True)
    temporary.replace(place)
    sync(place.parent)


def is_full(error: OSError) -> bool:
    """Whether a disk or a quota has no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
