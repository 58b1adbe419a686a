"""How many tokens a model takes, told from the plan and its config.json alone: before any data is read, and without a
deep-learning library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_core.resources.stage import Stage
from slipway_trainer.model import config_file
from slipway_trainer.step.errors import BadConfig

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


def check(stage: Stage, longest: ContextLength | None) -> None:
    """Raises BadConfig when the rows of a stage, with the virtual tokens before them, are longer than what the model
    takes; nothing is known of that where it is None."""
    if longest is None or stage.max_length + stage.virtual_tokens <= longest.tokens:
        return
    virtual = stage.virtual_tokens
    before = f", {virtual} of them virtual ones before each document" if virtual else ""
    room = longest.tokens - virtual
    raise BadConfig(
        f"stages[{stage.name}].maxLength: {stage.max_length} is above the {room} tokens that the model takes "
        f"({longest.tokens} by {longest.where}{before}). Set maxLength to {room} or less, or make a new model longer "
        "(model.scratch.maxLength)"
    )


def check_length(config: Any, stage: Stage) -> None:
    """The same, by a configuration of transformers: it knows what config.json may leave out."""
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    check(stage, longest and ContextLength(longest, f"max_position_embeddings of {config.model_type}"))
