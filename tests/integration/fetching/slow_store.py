"""A proxy before a store, for a test: it knows what was asked, and can be busy for a while or keep an answer back."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from urllib.parse import urlsplit

from tests.http_server import QuietHandler, served

Range = tuple[str, int]
"""Path of an object, and the first byte that was asked for."""


@dataclass
class SlowStore:
    address: str = ""
    busy: int = 0
    """How many requests are answered with 503 before the store is."""
    asked: list[Range] = field(default_factory=list)
    """Every part of an object that was given."""
    kept_back: Range | None = None
    """What is asked for and never given."""
    keeping: Event = field(default_factory=Event)
    """Set once that is asked for."""
    ended: Event = field(default_factory=Event)


@contextmanager
def slow_store(store: str) -> Iterator[SlowStore]:
    """Yields a proxy before the store at an address."""
    slow, behind = SlowStore(), urlsplit(store).netloc

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._pass_on()

        def do_GET(self) -> None:
            self._pass_on()

        def _pass_on(self) -> None:
            if slow.busy:
                slow.busy -= 1
                return self._answer(503, {"Content-Length": "0"}, b"")
            if found := re.fullmatch(r"bytes=(\d+)-\d+", self.headers.get("Range", "")):
                wanted = (self.path, int(found[1]))
                if wanted == slow.kept_back:
                    slow.keeping.set()
                    slow.ended.wait()
                    self.close_connection = True
                    return
                slow.asked.append(wanted)
            connection = http.client.HTTPConnection(behind)
            connection.request(self.command, self.path, headers=dict(self.headers))
            answer = connection.getresponse()
            self._answer(answer.status, dict(answer.getheaders()), answer.read())

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with served(Handler) as slow.address:
        try:
            yield slow
        finally:
            slow.ended.set()
