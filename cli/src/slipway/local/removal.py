"""Removing what is in the state folder: runs, stopped endpoints, and models that nobody names any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from slipway.exit_codes import BadInput
from slipway.local.state import EndpointFolder, State


def remove_run(state: State, name: str) -> Iterator[str]:
    """Removes a run. A model that an endpoint serves, or could go back to, stays until that endpoint is removed too.

    Yields what was done. Raises StateError when there is no such run or somebody is at work on it.
    """
    folder = state.existing_run(name)
    with folder.lock():
        # Found from the endpoints' side, so that a damaged run can be removed as well.
        kept = {a: _users(state, a) for e in state.endpoints() for a in _artifacts(e) if folder.root in a.parents}
        users = sorted({user for names in kept.values() for user in names})
        if not users:
            shutil.rmtree(folder.root)
            yield f"run {name} is removed"
            return
        # run.json goes first: without it the run is gone, however far the rest comes.
        (folder.root / "run.json").unlink()
        workspaces = {artifact.parent for artifact in kept}
        for path in [*folder.root.iterdir(), *(path for workspace in workspaces for path in workspace.iterdir())]:
            if path not in workspaces and path not in kept:
                _remove(path)
    yield f"run {name} is removed; its model stays, since endpoint {', '.join(users)} names it"


def remove_endpoint(state: State, name: str) -> Iterator[str]:
    """Removes a stopped endpoint, and models of removed runs that it alone named. Raises BadInput."""
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
    yield f"endpoint {name} is removed"
    for artifact in named:
        run_folder = artifact.parent.parent
        orphan = run_folder.parent == state.root / "runs" and not (run_folder / "run.json").exists()
        if orphan and not _users(state, artifact):
            shutil.rmtree(run_folder, ignore_errors=True)
            yield f"the model of run {run_folder.name} is removed with it"


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
