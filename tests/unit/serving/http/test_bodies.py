"""Bodies that come slowly, or are large and many: they are bounded together, and a small request is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.unit.serving.http.running import Serving, ask, run, serving

KEYS = ("sk-one", "sk-two")
MIB = 1 << 20


def head(size: int, path: bytes = b"/chat", key: bytes = b"sk-one") -> bytes:
    return (
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"
        b"Content-Length: %d\r\n\r\n" % (path, key, size)
    )


@asynccontextmanager
async def slow(made: Serving, count: int, sent: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many requests whose bodies of 4 MiB have come as far as `sent` bytes."""
    connections = [await made.connect() for _ in range(count)]
    for _, writer in connections:
        writer.write(head(4 * MIB) + b" " * sent)
    try:
        yield [reader for reader, _ in connections]
    finally:
        for _, writer in connections:
            writer.close()


async def status(reader: asyncio.StreamReader) -> int:
    return int((await reader.readuntil(b"\r\n\r\n")).split()[1])


def test_of_too_many_bodies_on_their_way_the_slowest_gives_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, keys=KEYS, most_bodies=4) as made, slow(made, 10, 100) as readers:
            assert [await status(reader) for reader in readers[:6]] == [408] * 6
            assert made.server.bodies.arriving == 4
            assert b"200 ok" in await ask(*await made.connect(), key=b"sk-two")
            assert made.server.admission.running + made.server.admission.waiting == 0

    run(scenario)


def test_what_all_bodies_take_is_bounded_and_a_small_one_is_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, keys=KEYS, most_body_bytes=2 * MIB) as made:
            async with slow(made, 3, MIB) as readers:
                answered = [asyncio.ensure_future(status(reader)) for reader in readers]
                await asyncio.wait(answered, return_when=asyncio.FIRST_COMPLETED)
                assert [task.result() for task in answered if task.done()] == [429]
                assert made.server.bodies.total <= 3 * MIB
                assert b"200 ok" in await ask(*await made.connect(), key=b"sk-two")
                for task in answered:
                    task.cancel()
            while made.server.bodies.total:  # noqa: ASYNC110 (what it waits for is the server's own state)
                await asyncio.sleep(0.01)

    run(scenario)


def test_the_bodies_of_requests_that_wait_count_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(
            tmp_path, keys=KEYS, most_body_bytes=MIB, max_concurrent=1, max_queue=4, body_timeout=5
        ) as made:
            large = b'{"a": "' + b"x" * (MIB - 100) + b'"}'
            clients = [await made.connect() for _ in range(2)]
            clients[0][1].write(head(len(large), b"/v1/completions") + large)
            await clients[0][0].readuntil(b"first")
            clients[1][1].write(head(len(large)) + large)
            assert await status(clients[1][0]) == 429
            made.application.end.set()
            await clients[0][0].readuntil(b"ok")
            await asyncio.sleep(0.05)
            assert made.server.bodies.total == 0

    run(scenario)
