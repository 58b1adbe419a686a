"""A model's config.json as it lies there: read without a deep-learning library, and nothing in it is believed yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway_trainer.step.errors import BadModel


def read(folder: Path) -> dict[str, Any]:
    """Raises BadModel when there is none that can be read."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / "adapter_config.json").is_file():
            raise BadModel(
                f"model.from: {folder} is an adapter without its base. Train with export.mergeAdapter: true to start "
                "from what it makes"
            ) from None
        raise BadModel(f"model.from: {folder} has no config.json, so it is no model of Hugging Face") from None
    except (ValueError, RecursionError) as error:
        raise BadModel(f"model.from: {path}: is not JSON: {error}") from None
    except OSError as error:
        raise BadModel(f"model.from: {path}: cannot be read: {error.strerror}") from None
    if not isinstance(config, dict):
        raise BadModel(f"model.from: {path}: is no object {{…}}, so it describes no model")
    return config
