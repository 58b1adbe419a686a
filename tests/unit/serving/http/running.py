"""A server over real connections for tests: uvicorn, the middleware and signals; an application is the engine."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
import uvloop
from prometheus_client import CollectorRegistry, generate_latest

from slipway_core.protocol.artifact import Manifest
from slipway_serving.http import http_server
from slipway_serving.http.admission import Admission
from slipway_serving.http.api_keys import ApiKeys
from slipway_serving.http.bodies import Bodies
from slipway_serving.http.connections import Connections, Patience
from slipway_serving.http.http_server import HttpServer
from slipway_serving.http.linger import Linger
from slipway_serving.http.metrics import ServerMetrics
from slipway_serving.http.middleware import SlipwayMiddleware
from slipway_serving.http.server_parts import Server
from slipway_serving.settings import Limits, Settings

BODY = b'{"message": "hi"}'
CHAT = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n" + BODY

CONTEXT = 2048
MUCH = 1 << 18
"""Bytes in one of the 64 pieces of a large answer: more than the buffers of both ends hold."""
PROBE = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Application:
    """Answers at once, but /v1/completions with a stream that lasts until `end` is set, and /metrics with much."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "POST":
            await receive()
        if scope["path"] == "/metrics":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(64):
                await send({"type": "http.response.body", "body": b"x" * MUCH, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        streams = scope["path"] == "/v1/completions"
        length = [] if streams else [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        if streams:
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await self.end.wait()
        await send({"type": "http.response.body", "body": b"ok"})


class Serving:
    def __init__(
        self, port: int, application: Application, server: Server, task: asyncio.Task[int], registry: CollectorRegistry
    ) -> None:
        self.port, self.application, self.server, self.task = port, application, server, task
        self._registry = registry

    def metrics(self) -> str:
        return generate_latest(self._registry).decode()

    async def is_up(self) -> None:
        reader, writer = await self.connect()
        writer.write(PROBE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await reader.readexactly(2)
        writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def told_to_end(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while not self.server.linger.under_way:  # noqa: ASYNC110 (what it waits for is the server's own state)
            await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(
    tmp_path: Path,
    linger: float = 0.0,
    *,
    keys: tuple[str, ...] = (),
    connections: int = 64,
    patience: Patience | None = None,
    keep_alive: int = 5,
    most_bodies: int = 64,
    most_body_bytes: int = 1 << 28,
    **limits: Any,
) -> AsyncIterator[Serving]:
    """A server that is up. `linger` and `keep_alive` in seconds; `limits` are those of the settings."""
    digest = "sha256:" + "0" * 64
    manifest = Manifest(digest=digest, files={}, run="r", plan_digest=digest, created_at="2026-01-01T00:00:00Z")
    bounds = Limits(**limits)
    keys_file = tmp_path / "keys" if keys else None
    if keys_file:
        keys_file.write_text("\n".join(keys), encoding="utf-8")
    settings = Settings(
        model=tmp_path,
        served_name="tiny",
        api_keys_file=keys_file,
        drain_seconds=20,
        linger_seconds=linger,
        limits=bounds,
    )
    registry = CollectorRegistry()
    metrics = ServerMetrics(registry)
    admission = Admission(bounds.max_concurrent or 4, 4 if bounds.max_queue is None else bounds.max_queue)
    known = ApiKeys(keys_file) if keys_file else None
    linger_now = Linger(settings.linger_seconds)
    bodies = Bodies(most_bodies, most_body_bytes)
    server = Server(settings, manifest, known, admission, metrics, CONTEXT, linger_now, bodies)
    clients = Connections(connections, patience, metrics.connection_ended)
    metrics.watch_connections(clients)
    application = Application()
    middleware = SlipwayMiddleware(application)
    holder = SimpleNamespace(state=SimpleNamespace(args=SimpleNamespace(slipway=server)))

    async def with_app(scope: Any, receive: Any, send: Any) -> None:
        scope["app"] = holder  # as Starlette does
        await middleware(scope, receive, send)

    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        with_app, lifespan="off", log_level="error", timeout_graceful_shutdown=1, timeout_keep_alive=keep_alive
    )
    task = asyncio.create_task(http_server.serve(HttpServer(config, clients), server, sock, lambda: False))
    try:
        made = Serving(sock.getsockname()[1], application, server, task, registry)
        await made.is_up()
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes | None = None) -> bytes:
    """Returns the head of the answer."""
    authorization = b"Authorization: Bearer " + key + b"\r\n" if key else b""
    writer.write(CHAT.replace(b"Host:", authorization + b"Host:"))
    head = await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(2) == b"ok"
    return head.lower()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario()

    uvloop.run(bounded())  # As the server itself does.
