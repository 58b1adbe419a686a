"""From a file of this machine to a run in a cluster: its data sent, its URIs rewritten, applied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway import named_files
from slipway.cluster import client_settings
from slipway.cluster.kubectl import Kubectl, NotFound
from slipway.cluster.resources import RUNS
from slipway.cluster.submit import inputs, upload
from slipway.cluster.submit.inputs import Input
from slipway.exit_codes import BadInput
from slipway.screen.printing import console, note
from slipway_core.documents import loading
from slipway_core.protocol.workspace import WORKSPACE_CLAIM, claim_of
from slipway_core.resources.status import Phase
from slipway_core.resources.training_run import TrainingRun

if TYPE_CHECKING:
    from rich.progress import TaskID

MANAGER = "slipway-submit"
"""Field manager of the server-side apply."""
_DONE = (Phase.SERVING, Phase.COMPLETED, Phase.REJECTED)


def load(file: Path, overrides: Sequence[str]) -> TrainingRun:
    """Reads the run. Raises DocumentError and BadInput for what a cluster could not run."""
    run = loading.load_run(named_files.read(file), str(file), overrides=overrides)
    keys = run.spec.serving and run.spec.serving.template.access.keys_file
    if keys:
        raise BadInput(
            f"{file}: spec.serving.template.access.keysFile: {keys} is read on this machine alone; make a Secret with "
            f"`kubectl create secret generic {run.name}-keys --from-file=keys={keys}` and set keysSecret to its name"
        )
    return run


@dataclass(frozen=True)
class Submitted:
    """What became of it. It is not read as a run: a cluster whose Slipway is newer may have noted more in it."""

    name: str
    phase: str
    """The status as it was when it was applied."""
    suspended: bool
    new: bool
    changed: bool
    """Whether it is another than it was: in its spec, or in an annotation, which may ask for something."""

    def told(self, where: str, options: str) -> str:
        """Returns what a person is told, as `slipway run` does where that is the same.

        Args:
            where: the title of the target.
            options: of the command line, which lead there.
        """
        there = f"run {self.name} is there already and"
        if self.new:
            return f"run {self.name} is submitted to {where}"
        if self.changed:
            return f"run {self.name} is changed in {where}"
        if self.phase in _DONE:
            return f"run {self.name} was done already ({self.phase}); no step runs again"
        if self.suspended:
            return f"{there} stopped; `slipway resume {self.name} {options}` takes it up again"
        if self.phase == Phase.FAILED:
            return f"{there} Failed; `slipway resume {self.name} {options}` tries it again"
        if self.phase == Phase.HELD:
            return f"{there} Held; `slipway doctor {self.name} {options}` says what lets it be judged"
        if self.phase == Phase.AWAITING_APPROVAL:
            return (
                f"{there} waits for an approval; `slipway approve {self.name} {options}` shows what is to be approved"
            )
        return f"{there} {self.phase}"

    @property
    def moves(self) -> bool:
        """Whether there is something to watch."""
        rests = self.suspended or self.phase in (*_DONE, Phase.FAILED, Phase.HELD, Phase.AWAITING_APPROVAL)
        return self.new or self.changed or not rests


def submit(kubectl: Kubectl, run: TrainingRun, folder: Path, *, image: str | None = None) -> Submitted:
    """Sends the local files that the run names, and applies it.

    Args:
        folder: where its relative URIs start.
        image: of the pod that takes the files; what the chart names when None.

    Raises BadInput and ClusterError.
    """
    found = inputs.find(run, folder)
    claim = claim_of(run.spec.storage)
    document = inputs.rewritten(run, claim, found)
    before = _existing(kubectl, run.name)
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
    return _submitted(before, _apply(kubectl, document))


def _existing(kubectl: Kubectl, name: str) -> dict[str, Any] | None:
    try:
        return kubectl.get(RUNS, name)
    except NotFound:
        return None


def _submitted(before: dict[str, Any] | None, after: dict[str, Any]) -> Submitted:
    metadata, was = after["metadata"], before["metadata"] if before else {}
    # The API server counts the changes of a spec.
    same = all(was.get(part) == metadata.get(part) for part in ("uid", "generation", "annotations"))
    return Submitted(
        metadata["name"],
        after.get("status", {}).get("phase") or Phase.PENDING,
        bool(after["spec"].get("suspend")),
        new=was.get("uid") != metadata["uid"],
        changed=not same,
    )


def _apply(kubectl: Kubectl, document: dict[str, Any], *options: str) -> dict[str, Any]:
    return kubectl.json("apply", "--server-side", "--field-manager", MANAGER, *options, "-f", "-", input=document)


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
