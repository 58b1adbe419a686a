"""Who runs, who waits and who is sent away, before the engine is asked."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from slipway_serving.http.refusal import ClientLeft, Refusal

# Bounds of Retry-After, in seconds: less than one is not worth a header, and more than a minute is a guess.
_SOONEST, _LATEST = 1, 60
# Another replica takes over from one that drains, or this one's successor: both take seconds.
_RETRY_AFTER_DRAIN = 5
# Weight of the newest request in the running mean of how long a request takes.
_NEWEST = 0.2


class Admission:
    """Places for `max_concurrent` running requests and `max_queue` waiting ones, first come, first served.

    It belongs to one event loop, and nothing here awaits between a look and a change, so no lock is needed.
    """

    def __init__(self, max_concurrent: int, max_queue: int) -> None:
        self._max_concurrent = max_concurrent
        self._max_queue = max_queue
        self._queue: deque[asyncio.Future[None]] = deque()
        self._running = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._mean_seconds = 1.0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def draining(self) -> bool:
        return self._draining

    def check(self) -> None:
        """Raises Refusal when a request that came now would be sent away, so that its body need not be read."""
        if self._draining:
            headers = {"Retry-After": str(_RETRY_AFTER_DRAIN)}
            raise Refusal(503, "draining", "The server is shutting down. Try again in a few seconds.", headers=headers)
        if self._running >= self._max_concurrent and len(self._queue) >= self._max_queue:
            raise Refusal(
                429,
                "queue_full",
                f"The server is busy: {self._running} requests run and {len(self._queue)} wait. Try again later.",
                headers={"Retry-After": str(self.retry_after())},
            )

    def retry_after(self) -> int:
        """Returns the seconds after which a place in the queue is likely free."""
        seconds = self._mean_seconds / self._max_concurrent
        return min(_LATEST, max(_SOONEST, math.ceil(seconds)))

    @asynccontextmanager
    async def place(self, gone: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
        """Waits for a place and holds it.

        Args:
            gone: returns when the client has left; it is asked only while the request waits.

        Raises:
            Refusal: at once, when the queue is full or the server drains.
            ClientLeft: the client left while it waited.
        """
        self.check()
        self._idle.clear()
        try:
            await self._enter(gone)
        except BaseException:
            self._set_idle_if_so()
            raise
        started = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._leave(asyncio.get_running_loop().time() - started)

    async def _enter(self, gone: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._running < self._max_concurrent and not self._queue:
            self._running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        left = asyncio.create_task(gone())
        try:
            # The place is handed over by `_hand_over`, so nobody can overtake.
            await asyncio.wait((turn, left), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._give_up(turn)
            raise
        finally:
            left.cancel()
        if not turn.done():
            self._give_up(turn)
            raise ClientLeft

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self._hand_over()
        else:
            self._queue.remove(turn)

    def _leave(self, seconds: float) -> None:
        self._mean_seconds += _NEWEST * (seconds - self._mean_seconds)
        self._hand_over()
        self._set_idle_if_so()

    def _hand_over(self) -> None:
        if self._queue:
            self._queue.popleft().set_result(None)
        else:
            self._running -= 1

    def _set_idle_if_so(self) -> None:
        if self._running == 0 and not self._queue:
            self._idle.set()

    def drain(self) -> None:
        """Sends away whoever comes from now on. Those who run or wait are served to their end."""
        self._draining = True

    async def idle(self, seconds: float) -> bool:
        """Waits until nobody runs or waits; returns False when that takes more than so many seconds."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True
