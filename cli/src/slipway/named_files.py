"""Reading the files that a user names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from slipway.exit_codes import BadInput
from slipway_core.documents import schema_walk, yaml12
from slipway_core.plan import ExecutorDefaults, Plan, resolve
from slipway_core.resources import uris
from slipway_core.resources.api import URI_PATTERN
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.training_run import TrainingRun

_NO_UID = "00000000-0000-0000-0000-000000000000"
"""A run gets its uid when it starts; the digest does not cover it."""


def read(file: Path) -> str:
    """Returns the text of a file, or of standard input for `-`. Raises BadInput that names it."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except FileNotFoundError:
        near = sorted(file.parent.glob("*.y*ml")) if file.parent.is_dir() else []
        hint = f"; {file.parent} has {', '.join(path.name for path in near[:5])}" if near else ""
        raise BadInput(f"{file}: there is no such file{hint}") from None
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{file}:{line}: is not UTF-8; save it as UTF-8") from None


def plan_of(run: TrainingRun, file: Path) -> Plan:
    """Returns what a file would run, all defaults filled in."""
    return resolve(run, ExecutorDefaults(folder=str(file.resolve().parent)), uid=run.metadata.uid or _NO_UID)


def missing_files(resource: TrainingRun | ModelEndpoint, folder: Path) -> Iterator[str]:
    """Yields a sentence for each local file that the resource names and that is not there."""
    for path, text in schema_walk.texts(type(resource), resource.to_document(), URI_PATTERN):
        uri = uris.parse(text)
        if uri.scheme != "file":
            continue
        place = Path(uris.anchor(uri, str(folder.resolve())).path)
        found = any(place.parent.glob(place.name)) if "*" in place.name else place.exists()
        if not found:
            yield f"{yaml12.shown(path)}: {text}: there is no {place}"


def unseen(resource: TrainingRun | ModelEndpoint) -> Iterator[str]:
    """Yields a sentence for each dataset of the hub that a run names: nobody asks a hub before the run does."""
    if not isinstance(resource, TrainingRun):
        return
    for path, text in schema_walk.texts(TrainingRun, resource.to_document(), URI_PATTERN):
        if path[-1] == "uri" and uris.parse(text).scheme == "hf":
            yield f"{yaml12.shown(path)}: {text}: its configs, splits and rows are looked at by the run alone"
