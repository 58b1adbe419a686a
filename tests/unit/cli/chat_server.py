"""A server that speaks `POST /chat` over a real socket, with the request reader and the events of slipway_serving."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests import http_server
from tests.http_server import QuietHandler

from slipway_serving.handlers import chat as served
from slipway_serving.http.refusal import Refusal


class ChatServer:
    """Answers with what it was given, piece by piece; remembers what it was asked."""

    def __init__(self, pieces=("你", "好"), finish_reason="stop", refusal=None, cut=False, wait=None, thoughts=()):
        self.pieces, self.finish_reason, self.refusal, self.cut, self.wait = pieces, finish_reason, refusal, cut, wait
        self.thoughts = thoughts
        self.requests = []
        self.headers = []
        self.url = ""

    def chunks(self):
        usage = {"prompt_tokens": 3, "completion_tokens": len(self.pieces), "total_tokens": 3 + len(self.pieces)}
        for thought in self.thoughts:
            yield {"choices": [{"delta": {"reasoning": thought}, "finish_reason": None}], "model": "tang"}
        for piece in self.pieces:
            yield {"choices": [{"delta": {"content": piece}, "finish_reason": None}], "model": "tang"}
        yield {"choices": [{"delta": {}, "finish_reason": self.finish_reason}], "model": "tang"}
        yield {"choices": [], "usage": usage, "model": "tang"}

    def events(self):
        async def lines():
            for chunk in self.chunks():
                yield f"data: {json.dumps(chunk)}\n\n"

        async def collect():
            return [event async for event in served.events(lines())]

        events = asyncio.run(collect())
        return events[:1] if self.cut else events


def _handler(server: ChatServer):
    class Handler(QuietHandler):
        def do_POST(self):
            server.headers.append(dict(self.headers))
            body = self.rfile.read(int(self.headers["content-length"]))
            refusal = server.refusal
            if refusal is None:
                try:
                    server.requests.append(served.parse(body))
                except Refusal as error:
                    refusal = error
            if refusal is not None:
                self._send(refusal.status, "application/json", refusal.headers, [refusal.body()])
                return
            self._send(200, "text/event-stream", {}, (event.encode() for event in server.events()))

        def _send(self, status, kind, headers, parts):
            self.send_response(status)
            self.send_header("content-type", kind)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            for part in parts:
                try:
                    self.wfile.write(part)
                    self.wfile.flush()
                except BrokenPipeError:
                    return
                if server.wait is not None:
                    server.wait.wait(10)

    return Handler


@contextmanager
def running(server: ChatServer) -> Iterator[ChatServer]:
    with http_server.served(_handler(server)) as server.url:
        yield server
