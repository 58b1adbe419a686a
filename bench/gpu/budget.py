"""A time that several parts share: what one leaves is the others', and what no longer fits is left out and named."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Budget:
    """The time of one part."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    longest: float = 0.0
    """Seconds of the longest piece that was done."""
    left_out: list[str] = field(default_factory=list)
    """Pieces that no longer fitted."""
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def left(self) -> float:
        return self.seconds - (self.clock() - self._started)

    def has_room_for(self, piece: str) -> bool:
        """Whether a piece fits that takes as long as the longest one so far; the first one fits while time is left."""
        if self.left > self.longest:
            return True
        self.left_out.append(piece)
        return False

    def spent(self, seconds: float) -> None:
        """Takes note of how long a piece took."""
        self.longest = max(self.longest, seconds)


def share(left: float, shares: list[float]) -> float:
    """Returns the seconds of the first of several parts of the time that is left."""
    return left * shares[0] / sum(shares)
