"""The bodies that this server holds: those on their way, and those of requests that wait or are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from slipway_serving.http.refusal import Refusal

MOST_ARRIVING = 64
"""Bodies that may be on their way at the same time. One that came with its head is not counted: it is there."""
MOST_BYTES = 256 * 1024 * 1024
"""What all bodies may take together."""
_SMALL_BYTES = 64 * 1024
"""A body up to here is always taken: those who send large ones must not shut out the others."""
_RETRY_AFTER = 5


class Body:
    """One body, from its first byte until its request is answered."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.size = 0

    def grows(self, size: int) -> None:
        """Counts so many bytes more. Raises Refusal (429) when there is no room for a large body."""
        self._bodies.total += size
        self.size += size
        if self._bodies.total > self._bodies.most_bytes and self.size > _SMALL_BYTES:
            raise Refusal(
                429,
                "bodies_full",
                "The server holds too many large requests. Try again later, or send a smaller one.",
                headers={"Retry-After": str(_RETRY_AFTER), "Connection": "close"},
            )


class Bodies:
    """Bounded in number and in bytes. When too many are on their way, the one that is longest under way gives way.

    So whoever sends slowly displaces only others who send slowly.
    """

    def __init__(self, most_arriving: int = MOST_ARRIVING, most_bytes: int = MOST_BYTES) -> None:
        self._most_arriving = most_arriving
        self.most_bytes = most_bytes
        self.total = 0
        self._arriving: dict[asyncio.Timeout, None] = {}

    @property
    def arriving(self) -> int:
        return len(self._arriving)

    @contextmanager
    def one(self) -> Iterator[Body]:
        """Holds one body until the block ends."""
        body = Body(self)
        try:
            yield body
        finally:
            self.total -= body.size

    @contextmanager
    def on_its_way(self, deadline: asyncio.Timeout) -> Iterator[None]:
        """Counts a body as arriving until the block ends. Its deadline is brought forward when it must give way."""
        if len(self._arriving) >= self._most_arriving:
            slowest = next(iter(self._arriving))
            del self._arriving[slowest]
            slowest.reschedule(asyncio.get_running_loop().time())
        self._arriving[deadline] = None
        try:
            yield
        finally:
            self._arriving.pop(deadline, None)
