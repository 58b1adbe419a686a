"""Who runs, who waits and who is sent away, before the engine is asked."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from slipway_serving.http.refusal import ClientLeft, Refusal

# Bounds of Retry-After, in seconds: less than one is not worth a header, and more than a minute is a guess.
_SOONEST, _LATEST = 1, 60
# Another replica takes over from one that drains, or this one's successor: both take seconds.
_RETRY_AFTER_DRAIN = 5
# Weight of the newest request in the running mean of how long a request takes.
_NEWEST = 0.2


@dataclass(eq=False)
class _Waiting:
    client: str
    places: int
    turn: asyncio.Future[None]


class Admission:
    """Places for `max_concurrent` answers that are made, and for `max_queue` requests that wait.

    A request takes as many places as it wants answers. Each client's requests are served in the order of their coming,
    and the next place goes to the client that holds fewest: whoever sends much waits for himself. For the same reason
    a full queue sends away the newest request of the client who has most in it.

    It belongs to one event loop, and nothing here awaits between a look and a change, so no lock is needed.
    """

    def __init__(self, max_concurrent: int, max_queue: int) -> None:
        self.max_concurrent = max_concurrent
        self.max_queue = max_queue
        # A client's turn comes after those of the clients that stand before it.
        self._queue: dict[str, deque[_Waiting]] = {}
        self._waiting = 0
        self._running = 0
        self._held: Counter[str] = Counter()
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._mean_seconds = 1.0

    @property
    def running(self) -> int:
        """Places that are taken."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._waiting

    @property
    def draining(self) -> bool:
        return self._draining

    def check(self, client: str = "", places: int = 1) -> None:
        """Raises Refusal when a request that came now would be sent away, so that its body need not be read."""
        if self._draining:
            headers = {"Retry-After": str(_RETRY_AFTER_DRAIN)}
            raise Refusal(503, "draining", "The server is shutting down. Try again in a few seconds.", headers=headers)
        if not self._may_run(places) and self._waiting >= self.max_queue and self._greediest(client) is None:
            raise self._too_busy()

    def _too_busy(self) -> Refusal:
        return Refusal(
            429,
            "queue_full",
            f"The server is busy: {self._running} answers are made and {self._waiting} requests wait. Try again later.",
            headers={"Retry-After": str(self.retry_after())},
        )

    def _may_run(self, places: int) -> bool:
        return not self._queue and self._running + places <= self.max_concurrent

    def _greediest(self, client: str) -> deque[_Waiting] | None:
        """Returns the queue of the client who has most in it, if that is more than this one would have."""
        longest = max(self._queue.values(), key=len, default=None)
        own = len(self._queue.get(client, ()))
        return longest if longest is not None and len(longest) > own + 1 else None

    def retry_after(self) -> int:
        """Returns the seconds after which a place in the queue is likely free."""
        seconds = self._mean_seconds / self.max_concurrent
        return min(_LATEST, max(_SOONEST, math.ceil(seconds)))

    @asynccontextmanager
    async def place(
        self, gone: Callable[[], Coroutine[Any, Any, None]], client: str = "", places: int = 1
    ) -> AsyncIterator[None]:
        """Waits for so many places, at most `max_concurrent`, and holds them.

        Args:
            gone: returns when the client has left; it is asked only while the request waits.

        Raises:
            Refusal: when the queue is full or the server drains; or, while it waits, when it gives way.
            ClientLeft: the client left while it waited.
        """
        self.check(client, places)
        self._idle.clear()
        try:
            await self._enter(gone, client, places)
        except BaseException:
            self._set_idle_if_so()
            raise
        started = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._mean_seconds += _NEWEST * (asyncio.get_running_loop().time() - started - self._mean_seconds)
            self._leave(client, places)

    async def _enter(self, gone: Callable[[], Coroutine[Any, Any, None]], client: str, places: int) -> None:
        if self._may_run(places):
            return self._take(client, places)
        if self._waiting >= self.max_queue and (longest := self._greediest(client)):
            self._remove(longest[-1]).turn.set_exception(self._too_busy())
        waiting = _Waiting(client, places, asyncio.get_running_loop().create_future())
        self._queue.setdefault(client, deque()).append(waiting)
        self._waiting += 1
        left = asyncio.create_task(gone())
        try:
            # The places are handed over by `_hand_over`, so nobody can overtake.
            await asyncio.wait((waiting.turn, left), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._give_up(waiting)
            raise
        finally:
            left.cancel()
        if not waiting.turn.done():
            self._give_up(waiting)
            raise ClientLeft
        waiting.turn.result()

    def _take(self, client: str, places: int) -> None:
        self._running += places
        self._held[client] += places

    def _remove(self, waiting: _Waiting) -> _Waiting:
        queue = self._queue[waiting.client]
        queue.remove(waiting)
        if not queue:
            del self._queue[waiting.client]
        self._waiting -= 1
        return waiting

    def _give_up(self, waiting: _Waiting) -> None:
        if not waiting.turn.done():
            self._remove(waiting)
            self._hand_over()  # It may have stood before one that fits.
        elif waiting.turn.exception() is None:
            self._leave(waiting.client, waiting.places)

    def _leave(self, client: str, places: int) -> None:
        self._running -= places
        self._hand_over()  # Before it is forgotten who held them: it is somebody else's turn.
        self._held[client] -= places
        if not self._held[client]:
            del self._held[client]
        self._set_idle_if_so()

    def _hand_over(self) -> None:
        while self._queue:
            client = min(self._queue, key=lambda name: self._held[name])
            waiting = self._queue[client][0]
            if self._running + waiting.places > self.max_concurrent:
                return
            self._remove(waiting)
            if rest := self._queue.pop(client, None):
                self._queue[client] = rest  # Behind those who hold as much.
            self._take(client, waiting.places)
            waiting.turn.set_result(None)

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
