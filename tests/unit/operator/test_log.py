"""What the operator's event loop says that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

import pytest

from slipway_operator import log


def test_a_watch_that_the_loop_closes_inside_out_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    left_open = []

    async def watch() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            raise RuntimeError("generator didn't stop after athrow()")

    async def operate() -> None:
        asyncio.get_running_loop().set_exception_handler(log.of_event_loop)
        left_open.append(watch())
        await anext(left_open[0])

    asyncio.run(operate())
    assert not caplog.records


def test_what_a_callback_of_the_loop_raises_is_logged(caplog: pytest.LogCaptureFixture):
    async def operate() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log.of_event_loop)
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)

    asyncio.run(operate())
    assert "ZeroDivisionError" in caplog.text
