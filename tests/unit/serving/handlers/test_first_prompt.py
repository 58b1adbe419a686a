from __future__ import annotations

import asyncio

from slipway_serving.handlers.first_prompt import FirstPrompt
from slipway_serving.http.refusal import Refusal


class Engine:
    def __init__(self) -> None:
        self.goes = asyncio.Event()
        self.asked = 0
        self.tokens = 8
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.asked += 1
        await self.goes.wait()
        if self.error is not None:
            raise self.error
        return self.tokens


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_many_callers_cost_one_generation_and_an_answer_is_remembered() -> None:
    async def scenario() -> None:
        engine = Engine()
        prompt = FirstPrompt(engine, Clock())
        callers = [asyncio.create_task(prompt.problem()) for _ in range(20)]
        await asyncio.sleep(0)
        callers[0].cancel()
        engine.goes.set()
        assert await asyncio.gather(*callers[1:]) == [None] * 19
        engine.error = RuntimeError("dead by now")
        assert await prompt.problem() is None
        assert engine.asked == 1, "a caller who left must not cost another generation, nor one who comes later"

    asyncio.run(scenario())


def test_a_failure_is_told_for_five_seconds_and_then_asked_again() -> None:
    async def scenario() -> None:
        engine, clock = Engine(), Clock()
        engine.goes.set()
        engine.error = RuntimeError("kernel image is invalid")
        prompt = FirstPrompt(engine, clock)
        assert await prompt.problem() == "RuntimeError: kernel image is invalid"
        engine.error = None
        clock.now += 4.9
        assert await prompt.problem() == "RuntimeError: kernel image is invalid"
        assert engine.asked == 1
        clock.now += 0.2
        assert await prompt.problem() is None
        assert engine.asked == 2

    asyncio.run(scenario())


def test_an_answer_without_a_token_and_a_refusal_are_failures_with_their_reason() -> None:
    async def scenario() -> None:
        engine = Engine()
        engine.goes.set()
        engine.tokens = 0
        assert await FirstPrompt(engine).problem() == "the answer has no token"
        engine.error = Refusal(503, "draining", "The server is shutting down.")
        assert await FirstPrompt(engine).problem() == "HTTP 503: The server is shutting down."

    asyncio.run(scenario())
