"""Keys to reconcile: each at most once in the line, never two passes over one key, delays, and backoff after errors.

Keys that something happened to go before keys of new objects: a run that has ended does not wait behind those that were
just created. So that a steady stream of events does not hold the new ones back, one turn in a few is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from slipway_operator.cache.key import Key
from slipway_operator.kube.errors import Busy, Conflict

_TURNS = 3
"""One turn in so many is for new keys: each comes once, and has a run that was just created say how it is."""

_STALE = 1000
"""Entries of the heap that may be out of date."""

_FIRST_RETRY = 0.25

_LONGEST_RETRY = 60.0

_CONFLICT_RETRY = 0.05
"""Seconds: what was read was old, and the newer version is on its way already."""


@dataclass
class WorkQueue:
    """Belongs to one event loop; nothing but `get` waits."""

    monotonic: Callable[[], float]
    """Seconds; of the loop's own clock rate."""
    jitter: Callable[[], float] = random.random
    """Between 0 and 1."""
    standing_by: bool = False
    """Whether keys are let go: who does not lead makes no passes, and who begins to lead lists everything first. Kept,
    there would be one of each run that was ever deleted."""
    _woken: OrderedDict[Key, float] = field(default_factory=OrderedDict[Key, float])
    """Ready keys and since when, in the order of their turn."""
    _new: OrderedDict[Key, float] = field(default_factory=OrderedDict[Key, float])
    _turn: int = 0
    _moved_at: float | None = None
    """When a key was taken last; None while nobody takes any."""
    _in_work: set[Key] = field(default_factory=set[Key])
    _again: set[Key] = field(default_factory=set[Key])
    """In work, and to be looked at once more after it."""
    _due: dict[Key, float] = field(default_factory=dict[Key, float])
    """When a delayed key becomes ready; what the heap says otherwise is out of date."""
    _heap: list[tuple[float, Key]] = field(default_factory=list[tuple[float, Key]])
    _timer: asyncio.TimerHandle | None = None
    _failures: dict[Key, int] = field(default_factory=dict[Key, int])
    _waiters: deque[asyncio.Future[None]] = field(default_factory=deque[asyncio.Future[None]])

    def add(self, key: Key, *, new: bool = False) -> None:
        """Makes a key ready; one in work is looked at again after it. `new` lets those go first that are not."""
        if self.standing_by:
            return
        if key in self._in_work:
            self._again.add(key)
            return
        if key in self._woken:
            return
        # A new key that something happened to is not new any more.
        since = self._new.pop(key, None)
        line = self._new if new else self._woken
        line[key] = self.monotonic() if since is None else since
        self._wake()

    def add_after(self, key: Key, seconds: float) -> None:
        """Makes a key ready later; of several times the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        if self.standing_by:
            return
        at = self.monotonic() + seconds
        if at < self._due.get(key, float("inf")):
            self._due[key] = at
            heapq.heappush(self._heap, (at, key))
            if len(self._heap) > _STALE + 2 * len(self._due):
                # What is out of date leaves the heap at its time, which may be the end of a run's retention.
                self._heap = [(due, delayed) for delayed, due in self._due.items()]
                heapq.heapify(self._heap)
            self._set_timer()

    async def get(self) -> Key:
        """Returns the next key, which is in work until `done`. A pass says anew when to look again: delays are gone."""
        while (key := self._next()) is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise
        self._in_work.add(key)
        self._due.pop(key, None)
        if self._moved_at is not None:
            self._moved_at = self.monotonic()
        return key

    def done(self, key: Key) -> None:
        """Ends the work on a key; must follow each `get`."""
        self._in_work.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def retry(self, key: Key, error: Exception) -> None:
        """Looks at a key again after an error: soon after a conflict, when the server asks, or later each time."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        match error:
            case Busy():
                delay = error.retry_after
            case Conflict() if failures <= 3:
                delay = _CONFLICT_RETRY
            case _:
                delay = min(_LONGEST_RETRY, _FIRST_RETRY * 2.0 ** min(failures - 1, 20))
        self.add_after(key, delay * (1 + self.jitter() / 2))

    def forget(self, key: Key) -> None:
        """Begins the backoff of a key anew."""
        self._failures.pop(key, None)

    def __len__(self) -> int:
        """Keys that are ready and wait for their turn."""
        return len(self._woken) + len(self._new)

    @property
    def delayed(self) -> int:
        return len(self._due)

    def oldest(self) -> float:
        """Returns the seconds that the key which waits longest has been ready; 0 when none waits."""
        firsts = [next(iter(line.values())) for line in (self._woken, self._new) if line]
        return max(0.0, self.monotonic() - min(firsts)) if firsts else 0.0

    def stalled(self) -> float:
        """Returns the seconds that keys are ready and none is taken. A long line that moves has not stalled."""
        if self._moved_at is None:
            return 0.0
        return min(self.oldest(), self.monotonic() - self._moved_at)

    @contextlib.contextmanager
    def leading(self) -> Generator[None]:
        """Keeps keys from now on, until it ends."""
        self.standing_by = False
        try:
            yield
        finally:
            self.standing_by = True
            for kept in (self._woken, self._new, self._again, self._due, self._heap, self._failures):
                kept.clear()
            self._set_timer()

    @contextlib.contextmanager
    def served(self) -> Generator[None]:
        """Says that workers take keys from now on."""
        self._moved_at = self.monotonic()
        try:
            yield
        finally:
            self._moved_at = None

    def _next(self) -> Key | None:
        self._turn += 1
        lines = (self._new, self._woken) if self._turn % _TURNS == 0 else (self._woken, self._new)
        for line in lines:
            if line:
                return line.popitem(last=False)[0]
        return None

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._heap:
            wait = max(0.0, self._heap[0][0] - self.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._release)

    def _release(self) -> None:
        now = self.monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self.add(key)
        self._set_timer()
