"""One HTTP server from its first request to its end, without cutting a stream: linger, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from slipway_serving.http.connections import ClientConnection, Connections
from slipway_serving.http.server_parts import Server

logger = logging.getLogger(__name__)

_ENGINE_LOOK_SECONDS = 1.0
STOP_SECONDS = 3.0
"""What closing connections and stopping the engine take, out of the drain time."""


_TICKS_A_SECOND = 10  # uvicorn's own.


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers, since ours drain first, and with bounds for its connections."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        # No WebSocket: one would leave the bounds of its connection with uvicorn's protocol.
        config.ws = "none"
        config.http = functools.partial(ClientConnection, connections)  # type: ignore[assignment]
        super().__init__(config)
        self._connections = connections

    async def on_tick(self, counter: int) -> bool:
        if counter % round(self._connections.patience.look * _TICKS_A_SECOND) == 0:
            self._connections.look()
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(http: HttpServer, server: Server, sock: socket.socket, dead: Callable[[], bool]) -> int:
    """Serves until SIGTERM or SIGINT, or until the engine is dead. Returns the exit code: 0 after a drain, else 1."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(http.serve(sockets=[sock]))
    died = asyncio.create_task(_until(dead))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, died, stopped), return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        await server.linger.run(died)
        await _drain(server, died)
    http.should_exit = True
    await serving
    if not stop.is_set():
        logger.error("The engine died; see above for why.")
    died.cancel()
    stopped.cancel()
    return 0 if stop.is_set() else 1


async def _until(dead: Callable[[], bool]) -> None:
    while not dead():  # noqa: ASYNC110 (vLLM has no event to wait for)
        await asyncio.sleep(_ENGINE_LOOK_SECONDS)


async def _drain(server: Server, died: asyncio.Task[None]) -> None:
    """Lets what runs and waits come to its end, within the drain time; who comes now is sent away (503)."""
    server.admission.drain()
    seconds = server.settings.drain_seconds
    logger.warning(
        "Draining: %d run, %d wait, at most %g s.", server.admission.running, server.admission.waiting, seconds
    )
    idle = asyncio.create_task(server.admission.idle(max(seconds - STOP_SECONDS, seconds / 2)))
    await asyncio.wait((idle, died), return_when=asyncio.FIRST_COMPLETED)
    if idle.done() and not idle.result():
        logger.warning("Drain time is over: %d requests are cut.", server.admission.running + server.admission.waiting)
    idle.cancel()
