"""JSON files of the state folder, there whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway_host.files import write_atomically


def write_json(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any | None:
    """Returns the document, or None when there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
