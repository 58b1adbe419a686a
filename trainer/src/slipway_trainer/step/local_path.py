"""URIs of what is on this machine already: file://, pvc:// and run://."""

from __future__ import annotations

import os
from pathlib import Path

from slipway_core.protocol import variables
from slipway_core.resources import uris
from slipway_trainer.step.errors import BadConfig


def local_path(uri: uris.Uri, field: str) -> Path:
    if uri.scheme == "run":
        folder = _root(variables.RUNS_VARIABLE, uri, field) / uri.authority
        return next(folder.glob(f"{uri.authority}-*/artifact"), folder / "artifact")
    if uri.scheme == "pvc":
        return (
            _root(variables.CLAIMS_VARIABLE, uri, field) / uri.authority / uri.path.lstrip("/")
        )  # pvc://claim//x is no file of the image.
    return Path(uri.path)


def _root(variable: str, uri: uris.Uri, field: str) -> Path:
    root = os.environ.get(variable)
    if not root:
        raise BadConfig(f"{field}: {uri}: {uri.scheme}:// means nothing here (the executor did not set {variable})")
    return Path(root)


def in_image(uri: uris.Uri) -> str:
    """Returns what to add of a file that is not there: who wrote a relative path never wrote that of the image."""
    if uri.scheme != "file" or variables.CLAIMS_VARIABLE not in os.environ:
        return ""
    return ". On a cluster file:// is a file of the image; `slipway submit FILE` sends yours along"
