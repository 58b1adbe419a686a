"""The end of a server over real connections: uvicorn, the middleware and a signal; an application is the engine."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from slipway_core.protocol.artifact import Manifest
from slipway_serving.http import http_server
from slipway_serving.http.admission import Admission
from slipway_serving.http.http_server import HttpServer
from slipway_serving.http.linger import Linger
from slipway_serving.http.metrics import ServerMetrics
from slipway_serving.http.middleware import SlipwayMiddleware
from slipway_serving.http.server_parts import Server
from slipway_serving.settings import Settings

LINGER = 1.0
BODY = b'{"message": "hi"}'
CHAT = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n" + BODY


class Application:
    """Answers /chat at once, and /v1/completions with a stream that lasts until `end` is set."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["type"] != "http":
            return
        await receive()
        streams = scope["path"] == "/v1/completions"
        length = [] if streams else [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        if streams:
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await self.end.wait()
        await send({"type": "http.response.body", "body": b"ok"})


class Serving:
    def __init__(self, port: int, application: Application, server: Server, task: asyncio.Task[int]) -> None:
        self.port, self.application, self.server, self.task = port, application, server, task

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def told_to_end(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while not self.server.linger.under_way:  # noqa: ASYNC110 (what it waits for is the server's own state)
            await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(tmp_path: Path, linger: float) -> AsyncIterator[Serving]:
    digest = "sha256:" + "0" * 64
    manifest = Manifest(digest=digest, files={}, run="r", plan_digest=digest, created_at="2026-01-01T00:00:00Z")
    settings = Settings(model=tmp_path, served_name="tiny", drain_seconds=20, linger_seconds=linger)
    linger = Linger(settings.linger_seconds)
    server = Server(settings, manifest, None, Admission(4, 4), ServerMetrics(CollectorRegistry()), linger)
    application = Application()
    middleware = SlipwayMiddleware(application)
    holder = SimpleNamespace(state=SimpleNamespace(args=SimpleNamespace(slipway=server)))

    async def with_app(scope: Any, receive: Any, send: Any) -> None:
        scope["app"] = holder  # as Starlette does
        await middleware(scope, receive, send)

    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(with_app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1)
    task = asyncio.create_task(http_server.serve(HttpServer(config), server, sock, lambda: False))
    try:
        made = Serving(sock.getsockname()[1], application, server, task)
        await ask(*await made.connect())
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Returns the head of the answer."""
    writer.write(CHAT)
    head = await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(2) == b"ok"
    return head.lower()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(bounded())


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
