"""Copying the log files of this machine, for as long as somebody writes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from slipway.exit_codes import BadInput
from slipway.local.state import EndpointFolder, RunFolder, State
from slipway.target import LogRequest, Write, check_step, steps_of

_SECONDS = 0.2
"""Between two looks at the files."""


def copy(state: State, wanted: LogRequest, write: Write) -> None:
    """Writes the logs that are asked for. Raises BadInput and StateError for what is not there."""
    name = wanted.name
    if name is not None and not state.run(name).exists() and state.endpoint(name).exists():
        _copy_server(state.endpoint(name), wanted.follow, write)
        return
    folder = state.existing_run(name)
    if wanted.step == "serve":
        _copy_server(state.endpoint(_endpoint_of(folder)), wanted.follow, write)
        return
    if not wanted.follow and not _files(folder, wanted):
        where = f"step {wanted.step}" if wanted.step else f"run {folder.name}"
        raise BadInput(f"{where} has no log yet; `slipway status {folder.name}` says how far it is")
    _copy(lambda: _files(folder, wanted), lambda: wanted.follow and folder.holder() is not None, write)


def _copy_server(endpoint: EndpointFolder, follow: bool, write: Write) -> None:
    _copy(lambda: _server_files(endpoint), lambda: follow and endpoint.daemon() is not None, write)


def _endpoint_of(folder: RunFolder) -> str:
    serving = folder.load().spec.serving
    if serving is None:
        raise BadInput(f"--stage serve: run {folder.name} has no serving")
    return serving.endpoint


def _server_files(endpoint: EndpointFolder) -> list[tuple[str, Path]]:
    versions = sorted(endpoint.root.glob("versions/*/*.log"), key=lambda path: int(path.parent.name))
    files = [("endpoint", endpoint.log), *((f"version {path.parent.name}", path) for path in versions)]
    return [(title, path) for title, path in files if path.exists()]


def _files(folder: RunFolder, wanted: LogRequest) -> list[tuple[str, Path]]:
    """Returns title and path of the logs that were asked for, in the order of the steps."""
    run = folder.load()
    workspace, steps = folder.workspace(run), steps_of(run)
    check_step(wanted, run)
    found: list[tuple[str, Path]] = []
    for step in [wanted.step] if wanted.step else steps:
        numbers = [number for number in range(1, 1000) if workspace.log(step, number).exists()]
        chosen = [wanted.attempt] if wanted.attempt is not None else numbers[-1:]
        found += [(f"{step}, attempt {number}", workspace.log(step, number)) for number in chosen]
    return [(title, path) for title, path in found if path.exists()]


def _copy(scan: Callable[[], list[tuple[str, Path]]], going_on: Callable[[], bool], write: Write) -> None:
    """Copies logs, each under its title, for as long as somebody writes them."""
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
                write(f"==> {title} <==\n")
            if new:
                last = path
                write(new.decode("utf-8", errors="replace"))
        if not more:
            return
        time.sleep(_SECONDS)
