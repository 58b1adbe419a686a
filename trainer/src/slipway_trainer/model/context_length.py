"""How many tokens a model takes, told from the plan and its config.json alone: before any data is read, and without a
deep-learning library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway_trainer.model import config_file

_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


@dataclass(frozen=True)
class ContextLength:
    tokens: int
    where: str
    """Where that stands, for errors."""


def of_folder(folder: Path) -> ContextLength | None:
    """Returns what config.json says; None when it does not. Raises BadModel when there is none that can be read."""
    config = config_file.read(folder)
    for name in _FIELDS:
        for place in (config, config.get("text_config")):
            if isinstance(place, dict) and isinstance(place.get(name), int):
                return ContextLength(place[name], f"{name} in {folder / 'config.json'}")
    return None
