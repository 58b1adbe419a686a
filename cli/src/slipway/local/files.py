"""Writing a file so that it is there whole or not at all, also after a power cut."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file by a rename. Raises OSError that names it (a full disk, say) and leaves the old one as it was."""
    try:
        _replace(path, text)
    except OSError as error:
        # Writing to an open file says only what went wrong, not where.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, document: Any) -> None:
    write_atomically(path, json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any | None:
    """Returns the document, or None when there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
