"""How many tokens a model takes, told from the plan and its config.json alone: before any data is read, and without a
deep-learning library.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from slipway_trainer.step.errors import BadModel

_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


@dataclass(frozen=True)
class ContextLength:
    tokens: int
    where: str
    """Where that stands, for errors."""


def of_folder(folder: Path) -> ContextLength | None:
    """Returns what config.json says; None when it does not. Raises BadModel when there is none that can be read."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadModel(f"model.from: {folder} has no config.json, so it is no model of Hugging Face") from None
    except (ValueError, RecursionError) as error:
        raise BadModel(f"model.from: {path}: is not JSON: {error}") from None
    except OSError as error:
        raise BadModel(f"model.from: {path}: cannot be read: {error.strerror}") from None
    if not isinstance(config, dict):
        raise BadModel(f"model.from: {path}: is no object {{…}}, so it describes no model")
    for name in _FIELDS:
        for place in (config, config.get("text_config")):
            if isinstance(place, dict) and isinstance(place.get(name), int):
                return ContextLength(place[name], f"{name} in {path}")
    return None
