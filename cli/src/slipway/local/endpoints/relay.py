"""The owner of an endpoint's port: it takes every request to the version that has the traffic at that moment.

It routes requests, not connections. A client that keeps its connection open for hours, as OpenAI's does, would
otherwise stay with a version that was replaced long ago, and fail when that one ends. A request that has begun stays
with its server until its answer is complete; the next one on the same connection goes where the traffic is by then.
Bodies pass through as they come, so streams stream. While nothing is there to answer, the relay does: 503 with
Retry-After and the cause.

HTTP is aiohttp's on both sides. Its client sends a body and reads the answer at the same time, which httpx's does not;
its server tells of connections that have asked nothing yet, and may close them, which an ASGI server does not.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from aiohttp.http import HttpProcessingError
from yarl import URL

from slipway.local import ports

logger = logging.getLogger(__name__)

IDLE_SECONDS = 600.0
"""How long a client's connection may be silent between two requests."""
FIRST_REQUEST_SECONDS = 30.0
"""How long a new connection may take until its first request is there."""
UNREAD_BODY_SECONDS = 10.0
"""How long the rest of a request is read after its answer: a client that still sends would not see the answer."""
_SPARE_FILES = 64
"""Descriptors that are kept for the daemon itself: its looks at the servers must never fail for want of one."""
HEAD_BYTES = 1 << 16
"""Most bytes of the line and the headers of a request."""
_LARGE_BODY = 1 << 16
# Headers that belong to one hop; aiohttp decides on each of the relay's two sides itself.
_OWN_HOP = {"connection", "keep-alive", "proxy-connection", "upgrade", "te", "transfer-encoding"}


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
        self._clients: _Clients | None = None
        self._session: aiohttp.ClientSession | None = None
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
        if self._clients is None:
            self._clients, self._session = _Clients(self._answer, self._most_connections), _session()
        self._server = await asyncio.get_running_loop().create_server(self._clients, sock=listener)
        self._listener, self._address = listener, (host, port)
        if before is not None:
            await asyncio.sleep(0.05)  # What the kernel accepted on the old socket is taken over by the loop.
            before.close()

    async def close(self, grace: float) -> None:
        """Stops listening, and gives answers that are on their way so many seconds to come to their end."""
        if self._server is None or self._clients is None or self._session is None:
            return
        self._server.close()
        self._clients.pre_shutdown()
        await self._clients.shutdown(grace / 2)  # It waits twice: for the answers, then for the connections.
        await self._session.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._may_ask(request):
            raise _cut(request)
        if request.version >= aiohttp.HttpVersion11 and "Host" not in request.headers:
            return _refuse(400, "this is no HTTP/1.1 request: it names no host")
        if not request.raw_path.startswith("/"):
            return _refuse(400, "this request cannot be sent on: its target is no path")
        if not all(_is_text(value) for _, value in request.raw_headers):
            return _refuse(400, "this request cannot be sent on: a header of it is not UTF-8")
        target = self._target()
        if isinstance(target, Unavailable):
            return _decline(target)
        try:
            answer = await self._ask(target, request)
        except aiohttp.ClientError as error:
            if request.content.exception() is not None:
                return _refuse(400, "the body of this request is broken")
            logger.warning("A server ended while it was asked: %s", error)
            return _decline(self._gone())
        async with answer:
            headers = _passed_on(answer.raw_headers)
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
            try:
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
            except aiohttp.ClientError as error:
                raise _cut(request) from error  # A clean end would make half an answer look whole.
        return response

    async def _ask(self, target: Backend, request: web.BaseRequest) -> aiohttp.ClientResponse:
        assert self._session is not None
        length = request.content_length
        return await self._session.request(
            request.method,
            URL(f"http://{target.host}:{target.port}{request.raw_path}", encoded=True),
            headers=_passed_on(request.raw_headers),
            data=_body(request) if request.body_exists else None,
            # So a server, which knows Expect as uvicorn does, refuses a large body before it is sent: what one says
            # that closes its connection under a body may be lost.
            expect100=request.body_exists and (length is None or length >= _LARGE_BODY),
            allow_redirects=False,
        )

    def _may_ask(self, request: web.BaseRequest) -> bool:
        """Whether a connection that was opened earlier came by the address that is listened on now."""
        local = self._address is not None and self._address[0] == ports.LOOPBACK
        return not local or str(request.get_extra_info("sockname")[0]).startswith("127.")

    def _gone(self) -> Unavailable:
        target = self._target()
        return target if isinstance(target, Unavailable) else Unavailable("the server ended a moment ago", 5)


class _Clients(web.Server):
    """The connections of clients: not more than there are descriptors for, and none that asks nothing.

    Above that the one gives way that has been silent longest: whoever holds many open displaces only himself.
    """

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], most: int) -> None:
        http_logger = logging.getLogger(f"{__name__}.http")
        http_logger.addFilter(_is_about_us)
        super().__init__(
            self._hear,
            handler_cancellation=True,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=UNREAD_BODY_SECONDS,
            logger=http_logger,
            access_log=None,
            auto_decompress=False,
            max_line_size=HEAD_BYTES,
            max_field_size=HEAD_BYTES,
        )
        self._answer, self._most = answer, most
        self._first: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._open: set[web.RequestHandler] = set()
        # In the order in which they fell silent.
        self._silent: dict[web.RequestHandler, asyncio.Transport] = {}

    def __call__(self) -> web.RequestHandler:
        return _Handler(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        if len(self._open) >= self._most and not self._made_room():
            return transport.abort()
        self._open.add(handler)
        super().connection_made(handler, transport)
        self._silent[handler] = transport
        self._first[handler] = asyncio.get_running_loop().call_later(FIRST_REQUEST_SECONDS, transport.abort)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._is_heard(handler)
        self._open.discard(handler)
        super().connection_lost(handler, exc)

    def _made_room(self) -> bool:
        """Ends the connection that has been silent longest. Returns False when all ask something."""
        handler, transport = next(iter(self._silent.items()), (None, None))
        if handler is None or transport is None:
            return False
        self._is_heard(handler)
        self._open.discard(handler)
        transport.abort()
        return True

    async def _hear(self, request: web.BaseRequest) -> web.StreamResponse:
        self._is_heard(request.protocol)
        try:
            return await self._answer(request)
        finally:
            if request.protocol in self._open and request.transport is not None:
                self._silent[request.protocol] = request.transport

    def _is_heard(self, handler: web.RequestHandler) -> None:
        self._silent.pop(handler, None)
        if timer := self._first.pop(handler, None):
            timer.cancel()


class _Handler(web.RequestHandler):
    """aiohttp's side of a connection, with a bound for all headers of a request together: it has one for each."""

    _unasked = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waiter is None or self._waiter.done():  # A request is there, and this is its body or the next one.
            self._unasked = 0
            return
        self._unasked += len(data)
        if self._unasked > HEAD_BYTES and not self._force_close and isinstance(self.transport, asyncio.Transport):
            answer = _refusal(431, f"the headers of this request are above the limit of {HEAD_BYTES} bytes")
            head = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\n"
            self.transport.write(f"{head}Connection: close\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode())
            self.transport.write_eof()
            self._force_close = True  # What still comes is read and dropped, or the client would not see the answer.
            asyncio.get_running_loop().call_later(UNREAD_BODY_SECONDS, self.transport.abort)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers in the shape of every other refusal. aiohttp takes what it cannot parse for HTTP/1.0, and says so."""
        super().handle_error(request, status, exc, message)  # It logs, and raises where an answer has begun.
        request._version = aiohttp.HttpVersion11
        problem = "this is no HTTP/1.1 request" if isinstance(exc, HttpProcessingError) else "the relay failed"
        answer = _refuse(status, problem)
        answer.force_close()
        return answer


def _is_about_us(record: logging.LogRecord) -> bool:
    """Whether it is more than a client's request that is no HTTP, or a connection that was cut on purpose."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | ConnectionAbortedError))


def _session() -> aiohttp.ClientSession:
    """Returns what asks the servers: it passes on what the client said and adds nothing. A connection for each
    request: a kept one could be closed by its server in the moment in which it is used."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        auto_decompress=False,
        max_line_size=HEAD_BYTES,
        max_field_size=HEAD_BYTES,
    )


async def _body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """Gives a request's body as it comes; this begins when the server wants it."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    async for piece in request.content.iter_any():
        yield piece


def _passed_on(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    text = ((name.decode(), value.decode(errors="surrogateescape")) for name, value in headers)
    return [(name, value) for name, value in text if name.lower() not in _OWN_HOP]


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cut(request: web.BaseRequest) -> ConnectionError:
    """Closes a client's connection at once. Returns what is to be raised."""
    if request.transport is not None:
        request.transport.abort()
    return ConnectionAbortedError("the connection was cut")


def _decline(unavailable: Unavailable) -> web.Response:
    message = f"The endpoint does not answer now: {unavailable.cause}."
    return _refuse(503, message, {"Retry-After": str(unavailable.retry_after)})


def _refuse(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(text=_refusal(status, message), status=status, headers=headers)


def _refusal(status: int, message: str) -> str:
    kind = "service_unavailable" if status == 503 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": status}
    return json.dumps({"error": error}, ensure_ascii=False)
