"""The connections of clients, bounded in number, bytes and time before anybody knows who asks.

uvicorn bounds none of the three: a head may be as long as the memory, and a connection that asks nothing, a head or a
body that never ends, and an answer that nobody reads last for ever. When all descriptors are taken, the probes fail.
"""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from slipway_serving.http.refusal import error_object

HEAD_BYTES = 1 << 16
"""Most bytes of a request that are not its body: its line and headers, or its trailers."""
_ENOUGH = 4096
"""Connections that a server is content with: 256 MiB if each sends the longest head."""
_BESIDE_PLACES = 1024
"""Connections beside those whose requests run or wait."""
_SPARE_FILES = 256
"""Descriptors that are kept for the engine, the model's files and the logs."""


def most_connections(places: int) -> int:
    """Raises this process's limit of open files as far as it is useful and may be, and returns the connections that
    fit, at most those that are enough for so many requests that run or wait."""
    wanted = max(_ENOUGH, places + _BESIDE_PLACES)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    useful = wanted + _SPARE_FILES
    if soft < useful:
        soft = useful if hard == resource.RLIM_INFINITY else min(useful, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft - _SPARE_FILES))


@dataclass(frozen=True)
class Patience:
    """Seconds that a connection may take. Tests are less patient."""

    look: float = 1.0
    """Between two looks at the clock."""
    head: float = 30.0
    """From its beginning to the end of its first request's head; and for the head of each later one."""
    rest: float = 10.0
    """For the rest of a request after its answer."""
    unread: float = 60.0
    """For which a client may read nothing of what is sent to it."""
    closing: float = 10.0
    """For the end of a connection: its client takes the last bytes and closes its side."""


class Connections:
    """The open connections of one server. When there are too many, the one that keeps the server waiting longest goes.

    So a new client always gets in, whoever holds how many connections open: they only displace each other.
    """

    def __init__(
        self, most: int, patience: Patience | None = None, ended: Callable[[str], None] = lambda reason: None
    ) -> None:
        """`ended` is told the reason of each connection that the server ends early."""
        self._most = most
        self.patience = patience or Patience()
        self.ended = ended
        self._open: set[ClientConnection] = set()
        # In the order in which they began to keep the server waiting.
        self._waited_for: dict[ClientConnection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: ClientConnection) -> bool:
        """Adds a connection, in the place of another one if need be. Returns False when all are being answered."""
        if len(self._open) >= self._most:
            slowest = next(iter(self._waited_for), None)
            if slowest is None:
                return False
            self.remove(slowest)
            slowest.cut("gave_way")
        self._open.add(connection)
        return True

    def remove(self, connection: ClientConnection) -> None:
        self._open.discard(connection)
        self._waited_for.pop(connection, None)

    def is_waited_for(self, connection: ClientConnection, waited_for: bool) -> None:
        """Notes that the server waits for this client from now on, or does not."""
        self._waited_for.pop(connection, None)
        if waited_for and connection in self._open:
            self._waited_for[connection] = None

    def look(self) -> None:
        """Ends the connections whose time is over. To be called every `patience.look` seconds."""
        for connection in list(self._open):
            connection.look()


class ClientConnection(HttpToolsProtocol):
    """uvicorn's side of a connection, which ends when its client lets it wait or sends too much."""

    def __init__(self, connections: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._connections = connections
        self._limits = {
            "head": connections.patience.head,
            "rest": connections.patience.rest,
            "idle": self.timeout_keep_alive,
            "unread": connections.patience.unread,
            "closing": connections.patience.closing,
        }
        self._in_head = True
        self._in_request = True
        self._refused = False
        self._head_bytes = 0
        self._bytes_without_progress = 0
        # What the server waits for, and how many such waits there were: two of a kind are not one long one.
        self._wait: tuple[str, int] = ("", 0)
        self._turn = 0
        self._since = 0.0

    # --- events --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._connections.admit(self):
            self.cut("too_many")
        self.look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return  # It is read all the same, since an answer is lost where its client still sends to a closed end.
        turn = self._turn
        self._bytes_without_progress += len(data)
        super().data_received(data)
        if self._turn != turn:
            self._bytes_without_progress = 0
        elif self._bytes_without_progress > HEAD_BYTES and not self._refused:
            self._refuse_head()
        self.look()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._in_request = True
        self._head_bytes = 0
        self._turn += 1

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._turn += 1
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        # While it is answered its time is the application's to bound, and afterwards a piece is no reason to wait on.
        self._bytes_without_progress = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_request = False
        self._turn += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.look()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._turn += 1

    # --- bounds --------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Notes what is waited for now, and ends the connection when that has taken too long."""
        now = self.loop.time()
        wait = (self._waits_for(), self._turn)
        if wait != self._wait:
            self._wait, self._since = wait, now
            self._connections.is_waited_for(self, wait[0] != "answer")
        elif (limit := self._limits.get(wait[0])) is not None and now - self._since > limit:
            self._give_up(wait[0])

    def _waits_for(self) -> str:
        if self._refused or self.transport.is_closing():
            return "closing"
        if self.flow.write_paused:
            return "unread"
        if self.cycle is not None and not self.cycle.response_complete:
            return "answer"
        if self._in_head:
            return "head"
        return "rest" if self._in_request else "idle"

    def _give_up(self, wait: str) -> None:
        if wait == "head" and self._head_bytes > 0:
            self.refuse(408, f"The head of this request did not arrive within {self._limits['head']:g} s.")
        else:
            self.transport.abort()
        self._connections.ended(wait)

    def cut(self, reason: str) -> None:
        """Ends the connection at once and without a word."""
        self.transport.abort()
        self._connections.ended(reason)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise ValueError("the head is too long")  # The parser stops, and `send_400_response` is called.

    # --- refusals ------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Answers what the parser did not take."""
        if self._head_bytes > HEAD_BYTES:
            self._refuse_head()
        else:
            self._connections.ended("no_http")
            self.refuse(400, "this is no HTTP/1.1 request")

    def _refuse_head(self) -> None:
        self._connections.ended("head_too_large")
        self.refuse(431, f"The head of this request is above the limit of {HEAD_BYTES} bytes: send fewer headers.")

    def refuse(self, status: int, message: str) -> None:
        """Answers and closes; a request that is being answered already, and is broken only now, is cut."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = json.dumps(error_object(status, message)).encode()
        headers = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._refused = True
        self.transport.write(STATUS_LINE[status] + headers + body)
        self.transport.write_eof()
