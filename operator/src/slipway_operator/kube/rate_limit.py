"""A token bucket: the operator's own limit on its requests, so that it never starves others of the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class TokenBucket:
    """Lets `burst` requests through at once, and `rate` a second from then on, in the order in which they came."""

    rate: float
    """Requests a second."""
    burst: int
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _tokens: float = field(init=False)
    _filled_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)
        self._filled_at = self.monotonic()

    async def take(self) -> None:
        """Returns once a request may go out."""
        now = self.monotonic()
        self._tokens = min(float(self.burst), self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        # A debt is the place in the line: it grows by one with each that waits.
        self._tokens -= 1
        if self._tokens < 0:
            await self.sleep(-self._tokens / self.rate)
