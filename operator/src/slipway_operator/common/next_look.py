"""When a pass is to look again, of all that would have it look."""

from __future__ import annotations

from datetime import timedelta


def soonest(*waits: timedelta | None) -> timedelta | None:
    """Returns the shortest of the waits; None when nothing but an event is waited for."""
    return min((wait for wait in waits if wait is not None), default=None)
