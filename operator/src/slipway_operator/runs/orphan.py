"""What is known of a record whose run is gone, and when its folder is to go. Pure.

The time is an annotation of the record: an operator that starts, or leads for the first time, knows it. It begins when
nothing keeps what is to go next: with the end of the run, and again once nobody names a model any more that was kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from slipway_core.lifecycle.annotations import REMOVE_ANNOTATION, REMOVE_NOW
from slipway_core.plan import Plan
from slipway_core.resources.api import in_words
from slipway_core.resources.conditions import parse_timestamp, timestamp
from slipway_core.resources.events import Event
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest, at, notes

_WORDS = 512
"""Characters of the annotation that says who keeps a model."""


@dataclass(frozen=True)
class Orphan:
    """What a record says of a run that is gone, as far as it is looked at again and again."""

    name: str
    namespace: str
    uid: str
    claim: str
    folder: str
    keep_artifacts: int

    @classmethod
    def of(cls, plan: Plan) -> Self:
        run = plan.run
        return cls(run.name, run.namespace, run.uid, plan.claim, plan.workspace_folder, plan.retention.keep_artifacts)

    @property
    def place(self) -> str:
        return f"{self.claim}/{self.folder}"

    @property
    def uri(self) -> str:
        """How a URI begins that names something of the folder."""
        return f"pvc://{self.place}/"


def marked_at(record: Manifest, now: datetime) -> datetime | None:
    """Returns since when nothing keeps what is to go next; None where no mark says it that can be relied upon.

    A mark that is ahead was made by another clock, and would prolong the grace. One that is older than its record came
    back with it from a backup: what was due then is news now. The API server's clock may be ahead of this one: then
    a mark may be as late as the record, or there would be a new one in every pass.
    """
    try:
        moment = parse_timestamp(notes(record)[names.ORPHANED_AT])
        made = parse_timestamp(record["metadata"]["creationTimestamp"])
        return moment if made <= moment <= max(now, made) else None
    except (KeyError, ValueError, TypeError):
        return None


def _next_mark(record: Manifest, now: datetime) -> datetime:
    try:
        return max(now, parse_timestamp(record["metadata"]["creationTimestamp"]))
    except (KeyError, ValueError, TypeError):
        return now


def is_wanted_gone(record: Manifest) -> bool:
    """Whether somebody asked for the removal at once."""
    return notes(record).get(REMOVE_ANNOTATION) == REMOVE_NOW


def time_left(record: Manifest, now: datetime, grace: timedelta) -> timedelta:
    """Returns how long the folder of a record stays; nothing where it is due."""
    if grace <= timedelta(0) or is_wanted_gone(record):
        return timedelta(0)
    since = marked_at(record, now)
    return grace if since is None else max(since + grace - now, timedelta(0))


def marks(record: Manifest, orphan: Orphan, keepers: list[str], now: datetime) -> dict[str, str | None]:
    """Returns the annotations that a record is to have: those that are None go."""
    since, own = marked_at(record, now), notes(record)
    released = names.KEPT_BY in own and not keepers
    return {
        names.ORPHANED_AT: timestamp(_next_mark(record, now)) if since is None or released else own[names.ORPHANED_AT],
        names.KEPT_BY: ", ".join(keepers)[:_WORDS] or None,
        names.FOLDER: orphan.place,
    }


UNMARKED: dict[str, str | None] = {names.ORPHANED_AT: None, names.KEPT_BY: None}
"""Annotations of a record whose folder a run uses after all."""


def changed(record: Manifest, wanted: dict[str, str | None]) -> Manifest | None:
    """Returns a record with these annotations; None where it has them already."""
    own = notes(record)
    if all(own.get(name) == value for name, value in wanted.items()):
        return None
    kept = {name: value for name, value in {**own, **wanted}.items() if value is not None}
    return {**record, "metadata": {**at(record, "metadata"), "annotations": kept}}


def told(orphan: Orphan, keepers: list[str], left: timedelta) -> Event:
    """Returns what people are told of a folder that nobody uses any more."""
    what = "all of it but the model" if keepers else "it"
    kept = f"; the model stays for {', '.join(keepers)}" if keepers else ""
    message = (
        f"the run {orphan.name} is gone and its folder pvc://{orphan.place} is left: {what} goes in "
        f"{in_words(left.total_seconds())}{kept}. A run of this name with the same plan goes on in it; "
        f"`slipway rm --now {orphan.folder}` removes it at once"
    )
    return Event("Normal", "FolderOrphaned", message)
