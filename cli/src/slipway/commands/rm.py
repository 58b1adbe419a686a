"""`slipway rm`"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.options import HERE, Workdir

if TYPE_CHECKING:
    from slipway.local.state import EndpointFolder, State


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Runs, or stopped endpoints as endpoint/NAME.")],
    workdir: Workdir = HERE,
) -> None:
    """Remove runs: their checkpoints, logs and models.

    A model that an endpoint serves, or could go back to, stays on the disk until that endpoint is removed too.
    """
    from slipway.local.state import State

    state = State.below(workdir)
    for name in names:
        kind, _, endpoint = name.partition("/")
        if kind == "endpoint" and endpoint:
            _remove_endpoint(state, endpoint)
        else:
            _remove_run(state, name)


def _remove_run(state: State, name: str) -> None:
    folder = state.existing_run(name)
    with folder.lock():
        # Found from the endpoints' side, so that a damaged run can be removed as well.
        kept = {a: _users(state, a) for e in state.endpoints() for a in _artifacts(e) if folder.root in a.parents}
        users = sorted({user for names in kept.values() for user in names})
        if not users:
            shutil.rmtree(folder.root)
            print(f"run {name} is removed")
            return
        # run.json goes first: without it the run is gone, however far the rest comes.
        (folder.root / "run.json").unlink()
        workspaces = {artifact.parent for artifact in kept}
        for path in [*folder.root.iterdir(), *(path for workspace in workspaces for path in workspace.iterdir())]:
            if path not in workspaces and path not in kept:
                _remove(path)
    print(f"run {name} is removed; its model stays, since endpoint {', '.join(users)} names it")


def _remove_endpoint(state: State, name: str) -> None:
    from slipway.exits import BadInput

    folder = state.endpoint(name)
    if not folder.exists():
        known = ", ".join(endpoint.name for endpoint in state.endpoints()) or "none"
        raise BadInput(f"there is no endpoint {name!r} in {state.root}; there are: {known}")
    # Its daemon holds the lock, so who waits for that would be told of a process instead of a command.
    if folder.daemon() is not None:
        raise BadInput(f"endpoint {name} serves; stop it first: slipway stop {name}")
    with folder.lock():
        named = _artifacts(folder)
        shutil.rmtree(folder.root)
    print(f"endpoint {name} is removed")
    for artifact in named:
        run_folder = artifact.parent.parent
        orphan = run_folder.parent == state.root / "runs" and not (run_folder / "run.json").exists()
        if orphan and not _users(state, artifact):
            shutil.rmtree(run_folder, ignore_errors=True)
            print(f"the model of run {run_folder.name} is removed with it")


def _users(state: State, artifact: Path) -> list[str]:
    return [endpoint.name for endpoint in state.endpoints() if artifact in _artifacts(endpoint)]


def _artifacts(folder: EndpointFolder) -> set[Path]:
    """Returns what an endpoint serves or served: the models that it could be asked to go back to."""
    endpoint, status = folder.load(), folder.status()
    uris = [version.uri for version in (status.live, status.candidate, *status.history) if version is not None]
    if endpoint.spec.model is not None:
        uris.append(endpoint.spec.model.uri)
    return {Path(uri.removeprefix("file://")) for uri in uris if uri.startswith("file://")}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
