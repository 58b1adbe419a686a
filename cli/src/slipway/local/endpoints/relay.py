"""The owner of an endpoint's port: it takes every request to the version that has the traffic at that moment.

It routes requests, not connections. A client that keeps its connection open for hours, as OpenAI's does, would
otherwise stay with a version that was replaced long ago, and fail when that one ends. A request that has begun stays
with its server until its answer is complete; the next one on the same connection goes where the traffic is by then.
Bodies pass through as they come, so streams stream. While nothing is there to answer, the relay does: 503 with
Retry-After and the cause.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import h11

from slipway.local import ports

logger = logging.getLogger(__name__)

IDLE_SECONDS = 600.0
"""How long a client's connection may be silent between two requests."""
FIRST_REQUEST_SECONDS = 30.0
"""How long a new connection may take until its first request is there."""
_SPARE_FILES = 64
"""Descriptors that are kept for the daemon itself: its looks at the servers must never fail for want of one."""
_BLOCK = 1 << 16
_HEAD_BYTES = 1 << 16
_UNREAD_BODY_SECONDS = 10.0
# Headers that belong to one hop; the relay decides on each of its two sides itself.
_OWN_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"te"}


@dataclass(frozen=True)
class Backend:
    host: str
    port: int


@dataclass(frozen=True)
class Unavailable:
    """Nothing can answer now."""

    cause: str
    retry_after: int
    """Seconds after which it is worth trying again."""


def most_connections() -> int:
    """Raises this process's limit of open files as far as it may, and returns the clients that fit: each takes two
    descriptors, its own and that of its server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(1, (soft - _SPARE_FILES) // 2) if soft != resource.RLIM_INFINITY else 1 << 20


class Relay:
    """Listens on one address, and asks `target` for each request where it goes."""

    def __init__(self, target: Callable[[], Backend | Unavailable]) -> None:
        self._target = target
        self._address: tuple[str, int] | None = None
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], _Peer] = {}
        self._closing = False
        self._most_connections = most_connections()

    @property
    def address(self) -> tuple[str, int] | None:
        return self._address

    async def listen(self, host: str, port: int) -> None:
        """Listens there from now on, and on the address before until then. Open connections stay.

        Raises ports.PortInUse or StateError, and goes on listening where it did.
        """
        if (host, port) == self._address:
            return
        before, shared = self._server, False
        if self._listener is not None and self._address is not None and self._address[1] == port:
            ports.share(self._listener)
            shared = True
        listener = ports.bind(host, port, shared=shared)
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=_BLOCK)
        self._listener, self._address = listener, (host, port)
        if before is not None:
            await asyncio.sleep(0.05)  # What the kernel accepted on the old socket is taken over by the loop.
            before.close()

    async def close(self, grace: float) -> None:
        """Stops listening, and gives answers that are on their way so many seconds to come to their end."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        for peer in self._connections.values():
            if peer.idle:
                peer.abort()
        if self._connections:
            _, late = await asyncio.wait(list(self._connections), timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        client = _Peer(h11.SERVER, reader, writer)
        if len(self._connections) >= self._most_connections:
            client.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = client
        try:
            patience = FIRST_REQUEST_SECONDS
            while not self._closing and await self._exchange(client, patience):
                patience = IDLE_SECONDS
        except (OSError, h11.ProtocolError, TimeoutError, asyncio.CancelledError):
            client.abort()
        except Exception:
            logger.exception("A connection failed.")
            client.abort()
        finally:
            del self._connections[task]
            client.close()

    async def _exchange(self, client: _Peer, patience: float) -> bool:
        """Brings one request to its server and the answer back. Returns whether another one may follow."""
        client.idle = True
        try:
            async with asyncio.timeout(patience):
                request = await client.next_event()
        except h11.RemoteProtocolError as error:
            await _answer(client, error.error_status_hint, f"this is no HTTP/1.1 request: {error}")
            return False
        if not isinstance(request, h11.Request):
            return False
        client.idle = False
        if not self._may_ask(client):
            return False
        try:
            headers = [*_passed_on(request.headers.raw_items()), (b"Connection", b"close")]
            request = h11.Request(method=request.method, target=request.target, headers=headers)
        except h11.LocalProtocolError as error:
            await _answer(client, 400, f"this request cannot be sent on: {error}")
            return False
        target = self._target()
        if isinstance(target, Backend):
            try:
                server = await _Peer.connect(target)
            except OSError:
                target = self._gone()
            else:
                await self._relay(client, request, server)
                return client.begin_next()
        await _decline(client, target)
        return client.begin_next()

    async def _relay(self, client: _Peer, request: h11.Request, server: _Peer) -> None:
        asking = asyncio.create_task(_forward_request(client, request, server))
        answering = asyncio.create_task(_forward_answer(client, server))
        try:
            await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                asking.result()
                return client.abort()  # The client left, and the server learns that by its closed connection.
            try:
                await answering
            except (OSError, h11.RemoteProtocolError) as error:
                if client.answer_began:
                    return client.abort()  # A clean end would make half an answer look whole.
                logger.warning("A server ended while it was asked: %s", error)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await _decline(client, self._gone())
        finally:
            for task in (asking, answering):
                task.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)
            server.abort()

    def _may_ask(self, client: _Peer) -> bool:
        """Whether a connection that was opened earlier came by the address that is listened on now."""
        local = self._address is not None and self._address[0] == ports.LOOPBACK
        return not local or client.came_by.startswith("127.")

    def _gone(self) -> Unavailable:
        target = self._target()
        return target if isinstance(target, Unavailable) else Unavailable("the server ended a moment ago", 5)


class _Peer:
    """One side of an exchange: a connection and where it is in HTTP/1.1."""

    def __init__(self, role: type[h11.SERVER] | type[h11.CLIENT], reader: StreamReader, writer: StreamWriter) -> None:
        self._http = h11.Connection(role, max_incomplete_event_size=_HEAD_BYTES)
        self._reader, self._writer = reader, writer
        self.idle = True

    @classmethod
    async def connect(cls, backend: Backend) -> _Peer:
        reader, writer = await asyncio.open_connection(backend.host, backend.port, limit=_BLOCK)
        return cls(h11.CLIENT, reader, writer)

    @property
    def answer_began(self) -> bool:
        return self._http.our_state is not h11.SEND_RESPONSE

    @property
    def sends_body(self) -> bool:
        """Whether more of its request is on the way."""
        return self._http.their_state is h11.SEND_BODY and not self._http.they_are_waiting_for_100_continue

    @property
    def came_by(self) -> str:
        """This machine's address that the other side connected to."""
        return str(self._writer.get_extra_info("sockname")[0])

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_BLOCK))
        assert event is not h11.NEED_DATA
        return event  # pyright: ignore[reportReturnType]

    async def send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._writer.write(data)
            await self._writer.drain()

    async def left(self) -> None:
        """Returns when the other side has closed. What it sends until then is kept for the next exchange."""
        kept = 0
        while kept < _HEAD_BYTES:
            data = await self._reader.read(_BLOCK)
            self._http.receive_data(data)
            if not data:
                return
            kept += len(data)
        await asyncio.Event().wait()  # A client that sends ahead without end is not read any further.

    def begin_next(self) -> bool:
        """Returns whether the connection can carry another exchange, and makes it ready for that."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def abort(self) -> None:
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()


async def _forward_request(client: _Peer, request: h11.Request, server: _Peer) -> None:
    """Sends a request on, then returns when the client leaves."""
    # A server may answer and close before it has read everything; its answer is what counts then.
    with contextlib.suppress(OSError):
        await server.send(request)
    while isinstance(event := await client.next_event(), h11.Data | h11.EndOfMessage):
        with contextlib.suppress(OSError):
            await server.send(event)
        if isinstance(event, h11.EndOfMessage):
            return await client.left()


async def _forward_answer(client: _Peer, server: _Peer) -> None:
    """Sends the answer on. Raises OSError or h11.RemoteProtocolError when the server ends before it is complete."""
    while True:
        event = await server.next_event()
        match event:
            case h11.InformationalResponse():
                await client.send(event)
            case h11.Response():
                headers = list(_passed_on(event.headers.raw_items()))
                await client.send(h11.Response(status_code=event.status_code, headers=headers, reason=event.reason))
            case h11.Data():
                await client.send(h11.Data(data=event.data))
            case h11.EndOfMessage():
                await client.send(h11.EndOfMessage(headers=list(event.headers.raw_items())))
                return
            case _:
                raise ConnectionResetError("it closed the connection without an answer")


def _passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    return ((name, value) for name, value in headers if name.lower() not in _OWN_HOP)


async def _decline(client: _Peer, unavailable: Unavailable) -> None:
    """Answers 503. The rest of the request is read first: a client that still sends would not see the answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_UNREAD_BODY_SECONDS):
            while client.sends_body:
                await client.next_event()
    retry = (b"Retry-After", str(unavailable.retry_after).encode())
    await _answer(client, 503, f"The endpoint does not answer now: {unavailable.cause}.", retry)


async def _answer(client: _Peer, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
    kind = "service_unavailable" if status == 503 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": status}
    body = json.dumps({"error": error}, ensure_ascii=False).encode()
    framing = [(b"Content-Type", b"application/json"), (b"Content-Length", str(len(body)).encode())]
    await client.send(h11.Response(status_code=status, headers=[*framing, *headers]))
    await client.send(h11.Data(data=body))
    await client.send(h11.EndOfMessage())
