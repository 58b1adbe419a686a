from __future__ import annotations

import asyncio

from slipway_serving.engine.probe import HUNG_AFTER, EngineProbe


class Engine:
    def __init__(self) -> None:
        self.goes = asyncio.Event()
        self.asked = 0
        self.dead = False

    async def __call__(self) -> str:
        self.asked += 1
        if self.dead:
            raise RuntimeError("dead")
        await self.goes.wait()
        return "v1"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_hung_engine_is_not_ready_at_once_and_not_alive_after_a_minute() -> None:
    async def scenario() -> None:
        engine, clock = Engine(), Clock()
        probe = EngineProbe(engine, clock)
        probe_soon = 0.001
        assert not await probe.answers(probe_soon)
        for age, alive in ((0.0, True), (HUNG_AFTER - 1, True), (HUNG_AFTER, False)):
            clock.now = age
            assert not await probe.answers(probe_soon)
            assert await probe.alive() is alive
        assert engine.asked == 1, "a hung engine must not collect questions"
        engine.goes.set()
        assert await probe.answers()
        assert await probe.alive()

    asyncio.run(scenario())


def test_a_dead_engine_is_neither_ready_nor_alive() -> None:
    async def scenario() -> None:
        engine = Engine()
        engine.dead = True
        probe = EngineProbe(engine, Clock())
        assert not await probe.answers()
        assert not await probe.alive()

    asyncio.run(scenario())


def test_every_look_asks_an_engine_that_answers_anew() -> None:
    async def scenario() -> None:
        engine = Engine()
        engine.goes.set()
        probe = EngineProbe(engine, Clock())
        assert await probe.answers()
        assert await probe.answers()
        assert engine.asked == 2

    asyncio.run(scenario())
