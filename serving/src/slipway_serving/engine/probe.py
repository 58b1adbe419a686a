"""Whether the engine answers: a process that is alive says nothing about an engine that hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

# A ready engine answers between two steps; one second is many of them.
READY_WITHIN = 1.0
# A restart costs minutes and every stream, and a busy machine is no hung engine: be sure first.
HUNG_AFTER = 60.0


class EngineProbe:
    """Asks the engine a question that only its main loop can answer, one at a time.

    A hung engine keeps the question, so callers share it instead of leaving one behind each.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._question: asyncio.Task[object] | None = None
        self._asked = 0.0

    async def answers(self, within: float = READY_WITHIN) -> bool:
        """Tells whether the engine answers within so many seconds."""
        question = self._question
        if question is None:
            question = self._question = asyncio.ensure_future(self._put())
            self._asked = self._clock()
        done, _ = await asyncio.wait((question,), timeout=within)
        if not done:
            return False
        if self._question is question:
            self._question = None
        return question.exception() is None

    async def alive(self) -> bool:
        """Tells whether the engine answers, or has kept a question for less than a minute."""
        if await self.answers():
            return True
        # No question left open: it was answered by an error, so the engine is dead and not slow.
        return self._question is not None and self._clock() - self._asked < HUNG_AFTER

    async def _put(self) -> object:
        return await self._ask()
