"""Files and folders that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Writes a file that is there in full or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Makes every file of a folder, and of those in it, durable."""
    for root, _, names in os.walk(folder):
        for name in names:
            with Path(root, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(root))


def replace_folder(temporary: Path, place: Path) -> None:
    """Puts a folder that is durable already into its place in one rename; what was there before is gone."""
    shutil.rmtree(place, ignore_errors=True)
    temporary.replace(place)
    sync_folder(place.parent)


def is_full(error: OSError) -> bool:
    """Whether a disk or a quota has no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
