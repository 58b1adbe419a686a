"""The samples that come with the trainer, as measurements take them."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def rows(name: str) -> list[dict[str, Any]]:
    """Returns the rows of a sample of the trainer."""
    file = resources.files("slipway_trainer") / "samples" / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
