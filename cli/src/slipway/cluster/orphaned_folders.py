"""Folders of runs that are gone: the records that the operator marks, read, and their removal asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from slipway.cluster import client_settings
from slipway.cluster.kubectl import ClusterError, Kubectl
from slipway.cluster.resources import RUNS
from slipway.target import OrphanedFolder
from slipway_core.lifecycle.annotations import REMOVE_ANNOTATION, REMOVE_NOW
from slipway_core.protocol.workspace import is_run_folder
from slipway_core.resources import labels
from slipway_core.resources.conditions import parse_timestamp

_RECORDS = "configmaps"


def read(
    kubectl: Kubectl, name: str | None = None, *, deleted: str | None = None, leaving: bool = False
) -> list[OrphanedFolder]:
    """Returns what runs left that are gone, those of one name or all, the oldest first.

    Args:
        name: of the runs.
        deleted: uid of a run that was told to go and may be there for a moment more.
        leaving: whether every run that is told to go counts as gone.

    Raises ClusterError.
    """
    wanted = {labels.MANAGED_BY: labels.MANAGED_BY_VALUE, labels.ROLE: "plan"}
    records = kubectl.list(_RECORDS, labels=wanted if name is None else {**wanted, labels.RUN: labels.label(name)})
    runs = [run["metadata"] for run in kubectl.list(RUNS)] if records else []
    uids = {run["uid"] for run in runs if not (leaving and "deletionTimestamp" in run)} - {deleted}
    left = [record for record in records if record["metadata"]["labels"].get(labels.RUN_UID) not in uids]
    grace = _grace(kubectl) if left else None
    return sorted((_folder(record, grace) for record in left), key=lambda one: (one.since or "9", one.uid))


def called(kubectl: Kubectl, name: str) -> list[OrphanedFolder]:
    """Returns what a name means to whoever removes it: one folder, by `FOLDER` or `pvc://CLAIM/FOLDER`, or all that
    runs of that name left. What a run leaves that is told to go counts. Raises ClusterError."""
    place = name.removeprefix("pvc://")
    folder = place.rpartition("/")[2]
    if is_run_folder(folder):
        left = read(kubectl, folder.rpartition("-")[0], leaving=True)
        if found := [one for one in left if place in (one.folder, one.place)]:
            return found
    return read(kubectl, name, leaving=True) if folder == name else []


def remove_now(kubectl: Kubectl, folders: Iterable[OrphanedFolder]) -> None:
    """Has what they hold removed at once. Raises ClusterError."""
    for folder in folders:
        change = {"metadata": {"annotations": {REMOVE_ANNOTATION: REMOVE_NOW}}}
        kubectl.patch(_RECORDS, folder.record, change)


def grace(kubectl: Kubectl) -> str | None:
    """Returns how long what a run leaves stays, by the chart; None where it says nothing, or not to this user."""
    try:
        return client_settings.read(kubectl).grace
    except ClusterError:
        return None


def _grace(kubectl: Kubectl) -> timedelta | None:
    from slipway_core.resources.api import seconds

    told = grace(kubectl)
    try:
        return timedelta(seconds=seconds(told)) if told is not None else None
    except ValueError:
        return None


def _folder(record: dict[str, Any], grace: timedelta | None) -> OrphanedFolder:
    metadata = record["metadata"]
    notes = metadata.get("annotations") or {}
    own = metadata["labels"]
    since = notes.get(labels.ORPHANED_AT)
    now = notes.get(REMOVE_ANNOTATION) == REMOVE_NOW
    return OrphanedFolder(
        run=_run_in(record) or own.get(labels.RUN, ""),
        uid=own.get(labels.RUN_UID, ""),
        namespace=metadata.get("namespace", ""),
        record=metadata["name"],
        place=notes.get(labels.FOLDER),
        since=since,
        goes=None if now or grace is None else _after(since, grace),
        now=now,
        kept_by=notes.get(labels.KEPT_BY),
    )


def _after(since: str | None, grace: timedelta) -> datetime | None:
    try:
        return parse_timestamp(since) + grace if since is not None else None
    except ValueError:
        return None


def _run_in(record: dict[str, Any]) -> str | None:
    """Returns the whole name of the run: a label may have shortened it."""
    try:
        return str(json.loads(record["data"]["plan.json"])["run"]["name"])
    except (KeyError, ValueError, TypeError):
        return None
