"""Removes a run's folder from its workspace; what is there may be half of one that a killed cleanup left."""

from __future__ import annotations

import shutil
from pathlib import Path

from slipway_core.protocol.workspace import Workspace, is_entry, is_run_folder
from slipway_host.files import sync
from slipway_trainer.step.errors import BadConfig


def remove(folder: Path, *, keep_artifact: bool) -> None:
    """Removes the folder of a run, or all of it but the artifact; one that is gone already is done.

    A symbolic link is removed, never followed: what it names belongs to somebody else.

    Raises BadConfig for a folder that is not a run's: of another name, a link, or with something in it that no run
    makes. Raises OSError when a file cannot be removed; what was removed until then stays so.
    """
    _require_run_folder(folder)
    if not folder.exists():
        return
    kept = {Workspace(folder).artifact} if keep_artifact else set[Path]()
    for entry in sorted(folder.iterdir()):
        if entry not in kept:
            _remove(entry)
    if not kept:
        folder.rmdir()
    sync(folder if kept else folder.parent)


def _require_run_folder(folder: Path) -> None:
    if not is_run_folder(folder.name):
        raise BadConfig(f"--workspace {folder}: {folder.name} is not called like a run's folder, <run>-<8 hex digits>")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BadConfig(f"--workspace {folder}: it is no folder but a {'link' if folder.is_symlink() else 'file'}")
    strange = sorted(entry.name for entry in folder.iterdir() if not is_entry(entry.name)) if folder.exists() else []
    if strange:
        raise BadConfig(
            f"--workspace {folder}: {strange[0]} is nothing that a run makes, so nothing is removed; move it "
            "elsewhere, or remove the folder yourself"
        )


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
