"""Removes a run's folder from its workspace; what is there may be half of one that a killed cleanup left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import cast

from slipway_core.protocol.artifact import MANIFEST
from slipway_core.protocol.workspace import PARITY, Workspace, is_entry, is_run_folder
from slipway_host.files import sync
from slipway_trainer.step.errors import BadConfig


def remove(folder: Path, *, keep_artifact: bool, plan_digest: str | None = None) -> None:
    """Removes the folder of a run, or all of it but the artifact and its records of parity; one that is gone is done.

    A symbolic link is removed, never followed: what it names belongs to somebody else.

    Args:
        folder: of the run.
        keep_artifact: leaves the model that was exported.
        plan_digest: of the plan by whose record the folder goes. What was made by another plan is another run's, and
            whoever wrote that record must not have it removed; None does not ask.

    Raises BadConfig for a folder that is not a run's, or another's: of another name, a link, with something in it that
    no run makes, or made by another plan. Raises OSError when a file cannot be removed; what was removed until then
    stays so.
    """
    _require_run_folder(folder)
    if not folder.exists():
        return
    _require_plan(Workspace(folder), plan_digest)
    kept = {Workspace(folder).artifact} if keep_artifact else set[Path]()
    for entry in sorted(folder.iterdir()):
        if kept and entry == folder / "evaluation" and entry.is_dir() and not entry.is_symlink():
            _keep_records(entry)
        elif entry not in kept:
            _remove(entry)
    if not kept:
        folder.rmdir()
    sync(folder if kept else folder.parent)


def _keep_records(evaluations: Path) -> None:
    """Removes all of a run's evaluations but the records of parity. A version is held against one at every start."""
    for number in sorted(evaluations.iterdir()):
        if not number.is_dir() or number.is_symlink():
            _remove(number)
            continue
        for entry in sorted(number.iterdir()):
            if entry.name != PARITY or not entry.is_file() or entry.is_symlink():
                _remove(entry)
        if not any(number.iterdir()):
            number.rmdir()
        else:
            sync(number)
    if not any(evaluations.iterdir()):
        evaluations.rmdir()


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


def _require_plan(workspace: Workspace, digest: str | None) -> None:
    for path in (workspace.prepared, workspace.artifact / MANIFEST):
        found = _plan_digest_in(path)
        if digest is not None and found not in (None, digest):
            raise BadConfig(
                f"--workspace {workspace.root}: {path.name} is of the plan {found}, and the record that has it removed "
                f"is of {digest}, so nothing is removed; remove the folder yourself, or that record"
            )


def _plan_digest_in(path: Path) -> str | None:
    """Returns the plan that a report says it is of; None where there is none, or half of one."""
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    digest = cast(dict[str, object], found).get("plan_digest") if isinstance(found, dict) else None
    return digest if isinstance(digest, str) else None


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
