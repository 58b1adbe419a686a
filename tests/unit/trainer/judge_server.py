"""A judge that goes by rules, behind a real OpenAI API: the longer answer wins, and a mark is as an answer is long."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from slipway_core.resources.judge import Judge

Fields = dict[str, Any]
_PART = re.compile(r"^([0-9a-f]{24}) begin (.+?)\n(.*?)\n\1 end \2$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Response:
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    seconds: float = 0.0
    """Before it is sent."""
    pause: float = 0.0
    """Behind each byte of the body."""


@dataclass
class Server:
    """What it was asked, and how it answers."""

    answer: Callable[[Fields], Response]
    models: Callable[[], Response] = lambda: listed("rules")
    """What it answers to the question for its models."""
    empty: Callable[[], Response] = lambda: Response(b'{"error": "messages is missing"}', status=400)
    """What it answers to a question without messages."""
    url: str = ""
    asked: list[Fields] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    inquiries: list[tuple[str, str | None]] = field(default_factory=list)
    """Method and path of what cost nothing, and the key that came with it."""
    times: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def judge(self, **fields: Any) -> Judge:
        given = {"url": self.url, "model": "rules", "criteria": "The longer answer is the better one.", **fields}
        return Judge.model_validate(given, by_alias=True, by_name=False)


def parts(asked: Fields) -> dict[str, str]:
    """Returns what a judge is shown, by its name."""
    return {name: text for _, name, text in _PART.findall(asked["messages"][1]["content"])}


def says(**document: Any) -> Response:
    """Returns a reply of one JSON object."""
    return replies(json.dumps({"reason": "by the rule", **document}))


def replies(text: str | None, finish: str = "stop") -> Response:
    body = {
        "model": "rules-1",
        "system_fingerprint": "fp",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }
    return Response(json.dumps(body).encode())


def by_rules(asked: Fields) -> Response:
    shown = parts(asked)
    if "answer" in shown:
        return says(mark=min(10, 1 + len(shown["answer"]) // 4))
    a, b = len(shown["answer A"]), len(shown["answer B"])
    return says(verdict="A" if a > b else "B" if b > a else "Tie")


def prefers_the_first(asked: Fields) -> Response:
    return says(verdict="A")


def listed(*names: str) -> Response:
    """Returns a list of models."""
    return Response(json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode())


def refusing(status: int = 401) -> Callable[[], Response]:
    return lambda: Response(b'{"error": "Incorrect API key"}', status=status)


@contextmanager
def serving(answer: Callable[[Fields], Response] = by_rules, **fields: Any) -> Iterator[Server]:
    """Serves a judge on a port of this machine."""
    served = Server(answer, **fields)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._inquired(served.models())

        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if "messages" not in document:
                return self._inquired(served.empty())
            with lock:
                served.asked.append({**document, "path": self.path})
                served.keys.append(self.headers.get("authorization"))
                served.times.append(time.monotonic())
                served.at_once += 1
                served.most_at_once = max(served.most_at_once, served.at_once)
            response = served.answer(document)
            time.sleep(response.seconds)
            with lock:
                served.at_once -= 1
            self._send(response)

        def _inquired(self, response: Response) -> None:
            served.inquiries.append((f"{self.command} {self.path}", self.headers.get("authorization")))
            time.sleep(response.seconds)
            self._send(response)

        def _send(self, response: Response) -> None:
            self.send_response(response.status)
            for name, value in {"content-type": response.kind, **response.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(response.body)))
            self.end_headers()
            if not response.pause:
                self.wfile.write(response.body)
                return
            for place in range(len(response.body)):
                self.wfile.write(response.body[place : place + 1])
                time.sleep(response.pause)

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            # A client that waits no longer.
            with suppress(BrokenPipeError, ConnectionResetError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
