"""Whether this server has answered a real prompt: the proof that a candidate gives before it gets traffic.

It is open without a key, so nobody may load the server through it: one prompt at a time, one success for good, and a
pause after a failure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from slipway_serving.handlers.chat import ChatRequest
from slipway_serving.http.refusal import Refusal

# Greedy and short: an engine that answers these tokens answers others.
PROMPT = ChatRequest(message="Hello", max_length=8, temperature=0, top_p=None)
# An engine may still compile something for its first answer.
_ANSWER_WITHIN = 120.0
_PAUSE = 5.0


class FirstPrompt:
    """Callers share one question, and it goes on when they leave."""

    def __init__(self, ask: Callable[[], Awaitable[int]], clock: Callable[[], float] = time.monotonic) -> None:
        """`ask` answers the prompt and returns the number of new tokens; it may raise Refusal."""
        self._ask = ask
        self._clock = clock
        self._question: asyncio.Task[str | None] | None = None
        self._answered = False
        self._problem: str | None = None
        self._failed_at = 0.0

    async def problem(self) -> str | None:
        """Returns what was wrong with the answer; None when it was one."""
        if self._answered:
            return None
        if self._question is None:
            if self._problem is not None and self._clock() - self._failed_at < _PAUSE:
                return self._problem
            self._question = asyncio.create_task(self._put())
        return await asyncio.shield(self._question)

    async def _put(self) -> str | None:
        self._problem = await self._try()
        self._answered = self._problem is None
        self._failed_at = self._clock()
        self._question = None
        return self._problem

    async def _try(self) -> str | None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                tokens = await self._ask()
        except TimeoutError:
            return f"no answer within {_ANSWER_WITHIN:g} s"
        except Refusal as refusal:
            return f"HTTP {refusal.status}: {refusal.message}"
        except Exception as error:
            # Whatever an engine that is broken raises is the answer to the question.
            return f"{type(error).__name__}: {error}"
        return None if tokens >= 1 else "the answer has no token"
