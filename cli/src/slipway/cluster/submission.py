"""From a file of this machine to a run in a cluster: its data sent, its URIs rewritten, applied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slipway import sources
from slipway.cluster import client_settings, inputs, upload, workspace_files
from slipway.cluster.inputs import Input
from slipway.cluster.kubectl import Kubectl
from slipway.exits import BadInput
from slipway.printing import console, note
from slipway_core import documents
from slipway_core.training_run import TrainingRun
from slipway_core.workspace import WORKSPACE_CLAIM

if TYPE_CHECKING:
    from rich.progress import TaskID

MANAGER = "slipway-submit"
"""Field manager of the server-side apply."""


def load(file: Path, overrides: Sequence[str]) -> TrainingRun:
    """Reads the run. Raises DocumentError and BadInput for what a cluster could not run."""
    run = documents.load_run(sources.read(file), str(file), overrides=overrides)
    keys = run.spec.serving and run.spec.serving.template.access.keys_file
    if keys:
        raise BadInput(
            f"{file}: spec.serving.template.access.keysFile: {keys} is read on this machine alone; make a Secret with "
            f"`kubectl create secret generic {run.name}-keys --from-file=keys={keys}` and set keysSecret to its name"
        )
    return run


def submit(kubectl: Kubectl, run: TrainingRun, folder: Path, *, image: str | None = None) -> None:
    """Sends the local files that the run names, and applies it.

    Args:
        folder: where its relative URIs start.
        image: of the pod that takes the files; what the chart names when None.

    Raises BadInput and ClusterError.
    """
    found = inputs.find(run, folder)
    claim = workspace_files.claim_of(run)
    document = inputs.rewritten(run, claim, found)
    # What the API server refuses it refuses before gigabytes were sent.
    _apply(kubectl, document, "--dry-run=server")
    if found:
        settings = client_settings.read(kubectl, image)
        if claim == WORKSPACE_CLAIM:
            upload.ensure_claim(kubectl, settings)
        with _progress() as sent:
            new = upload.send(kubectl, claim, found.values(), settings, say=note, sent=sent)
        kept = len({one.folder for one in found.values()}) - len(new)
        size = sum(one.size for one in new)
        note(f"{len(new)} of its inputs sent ({size:,} bytes), {kept} were in the cluster already")
    _apply(kubectl, document)


def _apply(kubectl: Kubectl, document: dict[str, object], *options: str) -> None:
    kubectl.json("apply", "--server-side", "--field-manager", MANAGER, *options, "-f", "-", input=document)


@contextmanager
def _progress() -> Iterator[Callable[[Input, int], None]]:
    """Draws a bar an input on a terminal; elsewhere nothing is drawn."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    screen = console(error=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def sent(one: Input, count: int) -> None:
            if one.uri not in tasks:
                tasks[one.uri] = bars.add_task(one.uri, total=one.size)
            bars.advance(tasks[one.uri], count)

        yield sent
