"""The end of a server over real connections: uvicorn, the middleware and a signal; an application is the engine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.unit.serving.http.running import CHAT, ask, run, serving

LINGER = 1.0


def test_a_lingering_server_answers_kept_and_new_connections_and_closes_each(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, LINGER) as made:
            kept = [await made.connect() for _ in range(3)]
            for connection in kept:
                assert b"connection: close" not in await ask(*connection)
            await made.told_to_end()
            for connection in [*kept, await made.connect()]:
                head = await ask(*connection)
                assert head.startswith(b"http/1.1 200")
                assert b"connection: close" in head
                assert await connection[0].read() == b"", "the server closes it, so that the client goes elsewhere"
            assert await made.task == 0

    run(scenario)


def test_a_stream_runs_to_its_end_across_linger_and_drain(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, 0.2) as made:
            reader, writer = await made.connect()
            writer.write(CHAT.replace(b"/chat", b"/v1/completions"))
            await reader.readuntil(b"first")
            await made.told_to_end()
            while not made.server.admission.draining:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            late = await made.connect()
            late[1].write(CHAT)
            assert (await late[0].readuntil(b"\r\n")).startswith(b"HTTP/1.1 503")
            assert not made.task.done()
            made.application.end.set()
            assert b"ok" in await reader.read(), "the end of the stream arrives"
            assert await made.task == 0

    run(scenario)


@pytest.mark.parametrize(("linger", "longest"), [(0.0, 0.8), (LINGER, 5.0)])
def test_the_end_takes_as_long_as_the_linger_and_no_longer_when_nobody_is_served(
    tmp_path: Path, linger: float, longest: float
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, linger) as made:
            begun = time.monotonic()
            await made.told_to_end()
            assert await made.task == 0
            assert linger <= time.monotonic() - begun < longest + linger

    run(scenario)
