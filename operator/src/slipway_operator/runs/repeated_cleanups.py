"""Cleanup Jobs that came back as something else than what was made: tried again soon once, then ever later.

A webhook of the cluster may add a container or a variable to every Job. What such a one did nobody knows, so its record
stays; making it again every half minute, for ever, would not change that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from slipway_core.resources.events import Event

_SOON: Final = 2
"""Jobs that are made without a pause: the first one may have been somebody's."""
_PAUSE: Final = timedelta(minutes=20)
_LONGEST: Final = timedelta(hours=24)


@dataclass
class RepeatedCleanups:
    _counted: dict[str, tuple[int, datetime]] = field(default_factory=dict[str, tuple[int, datetime]])
    """By the uid of a record: how many of its Jobs were not what was made, and when the next one may be."""

    def may_repeat(self, record: str, job: str, now: datetime) -> bool:
        """Whether another Job may be made in the place of one that did other work; `record` and `job` are uids."""
        key = f"{record}/{job}"
        if key in self._counted:
            return now >= self._counted[key][1]
        before = [count for known, (count, _) in self._counted.items() if known.startswith(f"{record}/")]
        count = max(before, default=0) + 1
        pause = timedelta(0) if count < _SOON else min(_PAUSE * 2 ** min(count - _SOON, 16), _LONGEST)
        self._counted = {known: entry for known, entry in self._counted.items() if not known.startswith(f"{record}/")}
        self._counted[key] = count, now + pause
        return not pause

    def forget(self, record: str) -> None:
        self._counted = {known: entry for known, entry in self._counted.items() if not known.startswith(f"{record}/")}


def told(job: str, run: str, difference: str) -> Event:
    """Returns the Event about a record whose cleanup Job is not what was made."""
    message = (
        f"the Job {job} that cleans up after the run {run} has ended and is not what the operator made: its "
        f"{difference} differs, so nobody knows whether the folder is gone. Have what changes Jobs in this cluster (a "
        "mutating webhook) leave those with the label app.kubernetes.io/managed-by=slipway alone; it is tried again, "
        "ever later"
    )
    return Event("Warning", "CleanupChanged", message)
