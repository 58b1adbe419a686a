"""A server that behaves like slipway-server towards the endpoint's daemon, and loads no model.

How it behaves stands in `behaviour.json` of its model folder, which is read again for every request:
`load` seconds until it listens, `exit` [code, message] instead of that, `tokens` of an answer, `ready`, `alive`,
`parity` with the evaluation (null where it knows nothing of it), `hangs`, `crashes` when it is asked, `interval`
seconds between the pieces of a stream.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    def __init__(self, model: Path, port: int, drain: float, keys: Path | None) -> None:
        self.model, self.port, self.drain, self.keys = model, port, drain, keys
        self.draining = False
        self.at_work = 0
        self.lock = threading.Lock()

    def behaviour(self, name: str, default):
        path = self.model / "behaviour.json"
        return json.loads(path.read_text()).get(name, default) if path.exists() else default

    def load(self) -> None:
        time.sleep(self.behaviour("load", 0.2))
        if end := self.behaviour("exit", None):
            print(end[1], file=sys.stderr, flush=True)
            sys.exit(end[0])

    def stop(self, *_) -> None:
        self.draining = True
        threading.Thread(target=self._leave, daemon=True).start()

    def _leave(self) -> None:
        deadline = time.monotonic() + self.drain
        while self.at_work and time.monotonic() < deadline:
            time.sleep(0.01)
        os._exit(0)


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5  # As uvicorn closes a connection that is silent for so long.

        def do_GET(self) -> None:
            while server.behaviour("hangs", False):
                time.sleep(0.05)
            match self.path:
                case "/readyz":
                    good = server.behaviour("ready", True) and not server.draining
                    self.answer(200 if good else 503, {"ok": good, "reason": None if good else "told so"})
                case "/livez":
                    good = server.behaviour("alive", True)
                    self.answer(200 if good else 503, {"ok": good, "reason": None if good else "the engine is dead"})
                case "/promptz":
                    self.answer(200, {"ok": True, "parity": {"pass": server.behaviour("parity", True), "median": 1e-6}})
                case _:
                    self.answer(200, {"pid": os.getpid(), "model": server.model.name})

        def do_POST(self) -> None:
            body = json.loads(self.read_body())
            if server.keys is not None and self.headers.get("Authorization") != f"Bearer {server.keys.read_text()}":
                return self.answer(401, {"error": {"message": "A valid key is needed"}})
            if server.draining:
                return self.answer(503, {"error": {"message": "draining"}})
            if server.behaviour("crashes", False):
                os._exit(1)
            with server.lock:
                server.at_work += 1
            try:
                self.chat(body)
            finally:
                with server.lock:
                    server.at_work -= 1

        def chat(self, body: dict) -> None:
            usage = {"completion_tokens": server.behaviour("tokens", 3)}
            if not body.get("stream"):
                return self.answer(200, {"response": server.model.name, "usage": usage, "length": len(body["message"])})
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(body["max_length"]):
                self.piece(f'data: {{"delta": "{server.model.name}"}}\n\n')
                time.sleep(server.behaviour("interval", 0.05))
            self.piece("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")

        def piece(self, text: str) -> None:
            data = text.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        def read_body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers["Content-Length"]))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def answer(self, status: int, document: dict) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_) -> None:
            pass

    return Handler


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_) -> None:
        pass  # A client that left in the middle of a stream.


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--drain", type=float, required=True)
    parser.add_argument("--keys", type=Path)
    options = parser.parse_args()
    Path(tempfile.mkdtemp(), "file").write_text("put aside, as libraries do")
    server = Server(options.model, options.port, options.drain, options.keys)
    server.load()
    signal.signal(signal.SIGTERM, server.stop)
    _Listener(("127.0.0.1", options.port), handler(server)).serve_forever()


if __name__ == "__main__":
    main()
