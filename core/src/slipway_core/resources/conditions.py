"""Conditions by the conventions of the Kubernetes API: one a type, a transition time that moves with the status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from slipway_core.resources.events import Event
from slipway_core.resources.status import CONDITION_LIMIT, Condition, fit

Status = Literal["True", "False", "Unknown"]
NOT_ANSWERING = "NotAnswering"
"""Reason of a run's Live and an endpoint's Ready while the version that has the traffic does not answer."""
STOPPED = "Stopped"
"""The same of both where somebody has stopped the endpoint."""


@dataclass(frozen=True)
class Blocker:
    """Something outside that keeps a run or an endpoint from going on; it becomes a condition."""

    type: str
    reason: str
    message: str
    warns: bool = True
    """Whether an Event tells of it too; False for what is worth knowing and keeps nothing waiting."""


def timestamp(moment: datetime) -> str:
    """Returns a time as RFC 3339 in UTC, whole seconds, as the API server writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def not_ahead(moment: str, now: datetime) -> str:
    """Returns a recorded time, or now where it is ahead: another machine's clock was, and what is counted from it would
    last as much longer."""
    return timestamp(now) if parse_timestamp(moment) > now else moment


def put(
    conditions: Iterable[Condition],
    type_: str,
    status: Status,
    reason: str,
    message: str,
    now: datetime,
    generation: int | None = None,
) -> list[Condition]:
    """Returns the conditions with this one in its place. Its transition time moves only when the status does."""
    kept = list(conditions)
    old = next((c for c in kept if c.type == type_), None)
    since = old.last_transition_time if old and old.status == status else timestamp(now)
    new = Condition(
        type=type_,
        status=status,
        reason=reason,
        message=fit(message, CONDITION_LIMIT),
        last_transition_time=since,
        observed_generation=generation,
        **(old.unknown if old is not None else {}),
    )
    if old is None:
        return [*kept, new]
    return [new if c.type == type_ else c for c in kept]


def with_blockers(
    conditions: Iterable[Condition],
    own: Iterable[str],
    blockers: Iterable[Blocker],
    now: datetime,
    generation: int | None = None,
) -> list[Condition]:
    """Returns the conditions with one for each blocker, and without those of blockers that are gone.

    `own`: types that are there whatever is in the way.
    """
    blockers = list(blockers)
    shown = {*own, *(blocker.type for blocker in blockers)}
    kept = [condition for condition in conditions if condition.type in shown]
    for blocker in blockers:
        kept = put(kept, blocker.type, "True", blocker.reason, blocker.message, now, generation)
    return kept


def warnings(was: Iterable[Condition], blockers: Iterable[Blocker]) -> list[Event]:
    """Returns an event for each blocker that is new, or has another reason than before. Its words alone are no news:
    they may hold numbers that never rest, and an event is a write."""
    known = {(condition.type, condition.reason) for condition in was}
    return [
        Event("Warning", blocker.reason, blocker.message)
        for blocker in blockers
        if blocker.warns and (blocker.type, blocker.reason) not in known
    ]


def drop(conditions: Iterable[Condition], type_: str) -> list[Condition]:
    return [c for c in conditions if c.type != type_]


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    return next((c for c in conditions if c.type == type_), None)
