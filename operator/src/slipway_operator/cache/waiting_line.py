"""Who was refused by the API server: tried again ever less often, and woken, first come, first served, by what may have
made room.

A quota is not watched, and a policy cannot be. With each of 5,000 runs tried again every 15 s that was 333 requests a
second, for ever, and room went to whoever asked next.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

from slipway_operator.cache.key import Key

ROOM: Final = "QuotaExceeded"
"""The reason of those that wait for room, which the end of something else in the namespace may make."""
_FIRST: Final = timedelta(seconds=15)
_LONGEST_OF_THE_FIRST: Final = timedelta(minutes=1)
"""The one that waits longest in a namespace finds out what no event tells, such as a quota that was raised."""
_LONGEST: Final = timedelta(minutes=10)


class _Place(NamedTuple):
    """First come, first served."""

    created: str
    key: Key


@dataclass
class _Refused:
    place: _Place
    generation: int
    reason: str
    times: int = 0


@dataclass
class WaitingLine:
    jitter: Callable[[], float] = random.random
    """Between 0 and 1."""
    _refused: dict[Key, _Refused] = field(default_factory=dict[Key, _Refused])
    _lines: dict[tuple[str, str], list[_Place]] = field(default_factory=dict[tuple[str, str], list[_Place]])
    """By namespace and reason, in the order in which they were created."""

    def refused(self, key: Key, reason: str, *, created: str, generation: int) -> timedelta:
        """Takes note of a refusal. Returns when to try again: twice as late each time, anew once the spec is edited."""
        known = self._refused.get(key)
        times = known.times + 1 if known is not None and known.generation == generation else 0
        self.leave(key)
        one = self._refused[key] = _Refused(_Place(created, key), generation, reason, times)
        line = self._lines.setdefault((key.namespace, reason), [])
        insort(line, one.place)
        longest = _LONGEST_OF_THE_FIRST if line[0] == one.place else _LONGEST
        return min(longest, _FIRST * 2 ** min(times, 10)) * (1 + self.jitter() / 2)

    def leave(self, key: Key) -> None:
        """Forgets one that is not refused any more, or gone."""
        one = self._refused.pop(key, None)
        if one is None:
            return
        line = self._lines[key.namespace, one.reason]
        del line[bisect_left(line, one.place)]
        if not line:
            del self._lines[key.namespace, one.reason]

    def first(self, namespace: str) -> Key | None:
        """Returns who is to have the room that there may be in a namespace now."""
        line = self._lines.get((namespace, ROOM))
        return line[0].key if line else None
