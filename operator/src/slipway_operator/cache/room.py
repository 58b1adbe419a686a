"""How much of a namespace is kept: the oldest runs and endpoints up to a limit, and a bounded share of memory.

Without a bound one tenant ends the operator for all: it keeps what everybody makes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Final, NamedTuple

ASIDE: Final = 10_000
"""Names that are kept of a kind and namespace beyond what is kept whole."""


@dataclass(frozen=True)
class Limits:
    """Of each namespace."""

    runs: int = 1500
    endpoints: int = 250
    memory: int = 256 << 20
    """Bytes, as `trim` estimates them: half for runs and endpoints, half for what belongs to them."""


class Rank(NamedTuple):
    """First come, first served: in the order in which they were created, to the second."""

    created: str
    name: str
    uid: str


@dataclass
class Room:
    """What is kept whole of one kind in one namespace, the oldest first."""

    places: int
    most: int
    """Bytes."""
    used: int = 0
    _weights: dict[str, int] = field(default_factory=dict[str, int])
    _ranks: list[Rank] = field(default_factory=list[Rank])
    _rank_of: dict[str, Rank] = field(default_factory=dict[str, Rank])

    def __len__(self) -> int:
        return len(self._weights)

    @property
    def has_place(self) -> bool:
        return len(self._weights) < self.places and self.used < self.most

    def take(self, rank: Rank, weight: int) -> list[str] | None:
        """Gives an object a place. Returns the younger ones that lose theirs; None where only older ones could, or
        those of the same second, which were there first."""
        losers: list[str] = []
        places, free = self.places - len(self._weights), self.most - self.used
        for younger in reversed(self._ranks):
            if places >= 1 and free >= weight:
                break
            if younger.created <= rank.created:
                return None
            losers.append(younger.name)
            places, free = places + 1, free + self._weights[younger.name]
        if places < 1 or free < weight:
            return None
        for name in losers:
            self.leave(name)
        self._weights[rank.name] = weight
        self._rank_of[rank.name] = rank
        self.used += weight
        insort(self._ranks, rank)
        return losers

    def leave(self, name: str) -> None:
        weight = self._weights.pop(name, None)
        if weight is None:
            return
        self.used -= weight
        rank = self._rank_of.pop(name)
        del self._ranks[bisect_left(self._ranks, rank)]


class Aside(NamedTuple):
    """What is kept of an object that has no place."""

    rank: Rank
    version: int
    told: bool
    """Whether its status says so."""
