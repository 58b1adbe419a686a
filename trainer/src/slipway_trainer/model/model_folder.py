"""From a URI of the plan to the folder of a model on this machine."""

from __future__ import annotations

from pathlib import Path

from slipway_core.resources import uris
from slipway_fetching import model_cache
from slipway_trainer.step.errors import BadConfig, BadModel, DamagedShard
from slipway_trainer.step.local_path import in_image, local_path


def model_folder(uri: str, field: str = "model.from", *, fetched: Path | None = None) -> Path:
    """Returns a folder with the files of a model.

    Args:
        uri: of the plan, or of a live version.
        field: of the plan, for errors.
        fetched: where prepare has put models of object stores and of the hub.

    Raises BadModel when there is none, BadConfig when the scheme cannot be used here, DamagedShard when what prepare
    fetched is gone.
    """
    parsed = uris.parse(uri)
    if parsed.remote and fetched is not None:
        folder = model_cache.place(uri, fetched)
        if not folder.is_dir():
            raise DamagedShard(f"{field}: {uri}: {folder}, into which prepare fetched it, is gone. Start the run again")
        return folder
    if parsed.remote or parsed.scheme == "package":
        raise BadConfig(f"{field}: {uri}: a model is not read from {parsed.scheme}:// here; use hf:// or file://")
    path = local_path(parsed, field)
    if not path.is_dir():
        problem = "is not a folder" if path.exists() else "there is no such folder"
        raise BadModel(f"{field}: {uri}: {problem} ({path}){in_image(parsed)}")
    return path
