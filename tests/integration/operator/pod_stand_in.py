"""What pods answer over HTTP where none runs: the progress of a step, and a prompt to a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Answer = tuple[int, Any]
"""HTTP status and what is sent as JSON."""


@dataclass
class PodStandIn:
    """Every pod answers a prompt, is the model that was judged, and says nothing of its progress, unless a test told
    otherwise."""

    url: str = ""
    """For settings.podUrl."""
    asked: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """Namespace, pod and path of each question, in order."""
    _told: dict[tuple[str, str], tuple[str, Answer]] = field(default_factory=dict[tuple[str, str], tuple[str, Answer]])

    def say_progress(self, namespace: str, pod_prefix: str, **progress: Any) -> None:
        """Has the pods whose names begin so tell their progress."""
        self._told[namespace, "progress"] = (pod_prefix, (200, progress))

    def refuse_prompts(self, namespace: str, pod_prefix: str, reason: str) -> None:
        """Has the servers whose names begin so fail their first prompt."""
        self._told[namespace, "promptz"] = (pod_prefix, (503, {"ok": False, "reason": reason}))

    def know_nothing_of_parity(self, namespace: str, pod_prefix: str) -> None:
        """Has the servers whose names begin so answer, without knowing whether they are the model that was judged."""
        said = {"ok": True, "reason": None, "parity": {"pass": None, "median": None}}
        self._told[namespace, "promptz"] = (pod_prefix, (200, said))

    def answer(self, namespace: str, pod: str, path: str) -> Answer:
        self.asked.append((namespace, pod, path))
        prefix, told = self._told.get((namespace, path), ("", None))
        if told is not None and pod.startswith(prefix):
            return told
        compared = {"pass": True, "median": 1e-6}
        return (200, {"ok": True, "parity": compared}) if path == "promptz" else (404, {})


@contextmanager
def listening() -> Iterator[PodStandIn]:
    """Listens on a free port of 127.0.0.1."""
    stand_in = PodStandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")
            status, said = stand_in.answer(*parts) if len(parts) == 3 else (404, {})
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing: the operator asks often."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{server.server_port}/{{namespace}}/{{pod}}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
