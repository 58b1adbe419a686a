"""`slipway logs`"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.options import HERE, Workdir

if TYPE_CHECKING:
    from slipway.local.state import EndpointFolder, RunFolder


def logs(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A run or an endpoint; the newest run when left out.")
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage", metavar="STEP", help="prepare, a stage, export, evaluate or serve; all but serve when left out."
        ),
    ] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", metavar="N", help="The newest when left out.")] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as the log grows, until the run rests.")
    ] = False,
    workdir: Workdir = HERE,
) -> None:
    """Print the logs of a run's steps, or of an endpoint's server."""
    from slipway.exits import BadInput
    from slipway.local.state import State

    state = State.below(workdir)
    if name is not None and not state.run(name).exists() and state.endpoint(name).exists():
        endpoint = state.endpoint(name)
        _copy(lambda: _server_files(endpoint), lambda: follow and endpoint.daemon() is not None)
        return
    folder = state.existing_run(name)
    if stage == "serve":
        endpoint = state.endpoint(_endpoint_of(folder))
        _copy(lambda: _server_files(endpoint), lambda: follow and endpoint.daemon() is not None)
        return
    if not follow and not _files(folder, stage, attempt):
        where = f"step {stage}" if stage else f"run {folder.name}"
        raise BadInput(f"{where} has no log yet; `slipway status {folder.name}` says how far it is")
    _copy(lambda: _files(folder, stage, attempt), lambda: follow and folder.holder() is not None)


def _endpoint_of(folder: RunFolder) -> str:
    from slipway.exits import BadInput

    serving = folder.load().spec.serving
    if serving is None:
        raise BadInput(f"--stage serve: run {folder.name} has no serving")
    return serving.endpoint


def _server_files(endpoint: EndpointFolder) -> list[tuple[str, Path]]:
    versions = sorted(endpoint.root.glob("versions/*/*.log"), key=lambda path: int(path.parent.name))
    files = [("endpoint", endpoint.log), *((f"version {path.parent.name}", path) for path in versions)]
    return [(title, path) for title, path in files if path.exists()]


def _files(folder: RunFolder, stage: str | None, attempt: int | None) -> list[tuple[str, Path]]:
    """Returns title and path of the logs that were asked for, in the order of the steps."""
    from slipway.exits import BadInput

    run = folder.load()
    workspace = folder.workspace(run)
    steps = ["prepare", *(s.name for s in run.spec.stages), "export", "evaluate"]
    if stage is not None and stage not in steps:
        raise BadInput(f"--stage {stage}: run {folder.name} has no such step; it has {', '.join(steps)} and serve")
    found: list[tuple[str, Path]] = []
    for step in [stage] if stage else steps:
        numbers = [number for number in range(1, 1000) if workspace.log(step, number).exists()]
        wanted = [attempt] if attempt is not None else numbers[-1:]
        found += [(f"{step}, attempt {number}", workspace.log(step, number)) for number in wanted]
    return [(title, path) for title, path in found if path.exists()]


def _copy(scan: Callable[[], list[tuple[str, Path]]], going_on: Callable[[], bool]) -> None:
    """Copies logs to standard output, each under its title, for as long as somebody writes them."""
    copied: dict[Path, int] = {}
    last: Path | None = None
    while True:
        more = going_on()
        files = scan()
        for title, path in files:
            with path.open("rb") as file:
                file.seek(copied.get(path, 0))
                new = file.read()
            copied[path] = copied.get(path, 0) + len(new)
            if new and path != last and (len(files) > 1 or more):
                sys.stdout.write(f"==> {title} <==\n")
            if new:
                last = path
                sys.stdout.write(new.decode("utf-8", errors="replace"))
        sys.stdout.flush()
        if not more:
            return
        time.sleep(0.2)
