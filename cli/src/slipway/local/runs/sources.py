"""Sources that a run names and that this machine has not, such as those that only a cluster could have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slipway import named_files
from slipway.exit_codes import BadInput
from slipway.local.state import State
from slipway_core.documents import schema_walk, yaml12
from slipway_core.resources import uris
from slipway_core.resources.api import URI_PATTERN
from slipway_core.resources.training_run import TrainingRun


def require(run: TrainingRun, file: Path, state: State) -> None:
    """Raises BadInput that names each source of a run's file that this machine has not."""
    missing = [f"{sentence}; correct the path" for sentence in named_files.missing_files(run, file.parent)]
    missing += _missing_runs(run, state)
    if missing:
        raise BadInput("\n".join(f"{file}: {sentence}" for sentence in missing))


def _missing_runs(resource: TrainingRun, state: State) -> Iterator[str]:
    """Yields a sentence for each source that this machine has not: a run without a model, a claim of a cluster."""
    for path, text in schema_walk.texts(type(resource), resource.to_document(), URI_PATTERN):
        uri, place = uris.parse(text), yaml12.shown(path)
        if uri.scheme == "pvc":
            yield f"{place}: {text}: claims are there in a cluster alone; on this machine write file://"
        if uri.scheme == "run":
            folder = state.run(uri.authority)
            if not folder.exists():
                known = ", ".join(run.name for run in state.runs() if run.workspace().artifact.exists()) or "none"
                yield f"{place}: {text}: there is no such run in {state.root}; runs with a model: {known}"
            elif not folder.workspace().artifact.exists():
                phase = folder.status().phase.value
                yield f"{place}: {text}: that run is {phase} and has no model yet; take it to its end first"
