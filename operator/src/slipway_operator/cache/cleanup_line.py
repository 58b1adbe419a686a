"""Whose folder is to be removed and waits for its turn: few are at a time in all namespaces, first come, first served.

188 cleanup Jobs at once took a node's CPU from a run in another namespace.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from slipway_operator.cache.key import Key


@dataclass
class CleanupLine:
    _line: dict[Key, None] = field(default_factory=dict[Key, None])
    """What each is looked after under, in the order in which they came."""

    def join(self, key: Key) -> int:
        """Takes a place, or keeps the one that it has. Returns how many are before it."""
        self._line.setdefault(key)
        return next(place for place, other in enumerate(self._line) if other == key)

    def leave(self, key: Key) -> None:
        self._line.pop(key, None)

    def first(self, number: int) -> list[Key]:
        """Returns those that are next."""
        return [key for key, _ in zip(self._line, range(number), strict=False)]

    def all(self) -> list[Key]:
        return list(self._line)
