"""How a stage is doing, for whoever looks: /progress and /metrics on a port, metrics.jsonl, and a line for people."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TextIO

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from slipway_core.protocol import variables
from slipway_core.resources.api import in_words
from slipway_core.resources.status import Progress, bounded_warnings
from slipway_host.files import write_atomically
from slipway_trainer.step.errors import leave_warnings

PREFIX = "slipway_train_"
Say = Callable[[str], None]
"""Told what goes on, a line at a time."""

QUIET_SECONDS = 5.0
"""Between two lines of a log that is no terminal."""
LIVE_SECONDS = 0.2
KEPT_SECONDS = 5.0
"""Between two looks at what a step keeps, which go through a folder."""
MESSAGE_LIMIT = 1024

_GAUGES = {
    "step": "Optimizer steps done.",
    "total": "Optimizer steps of the stage.",
    "epoch": "Passes over the data.",
    "tokens": "Tokens trained on.",
    "loss": "Mean negative log-likelihood of a target token, in nats.",
    "validation_loss": "The same on documents that are not learned.",
    "margin": "By how much the chosen answer's reward was above the other's.",
    "accuracy": "Share of pairs of which the chosen answer had the higher reward.",
    "validation_accuracy": "The same of pairs that are not learned.",
    "learning_rate": "Learning rate of the last step.",
    "tokens_per_second": "Tokens trained a second, over the last steps.",
    "mfu_ratio": "Model FLOPs utilisation over the last steps: 1 is all that the devices are stated to do.",
    "peak_memory_bytes": "The most memory that the first process has held.",
    "eta_seconds": "Seconds to the end of the stage, as it goes now.",
}
"""By their names, which end with a unit as Prometheus has it."""
_SHARES = "time_ratio"
_SHARES_TEXT = "What the time of the last steps was spent on, as shares of 1."


class Reporter:
    """Rank 0 has one; it holds the newest Progress and shows it in every way there is."""

    def __init__(
        self,
        stage: str,
        *,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        kept: Callable[[], int] | None = None,
        beside: Callable[[Progress], Progress] | None = None,
    ) -> None:
        """`kept` looks how many bytes a step without training steps has by now that the next attempt begins with;
        `beside` adds what another process says of the step. Both are asked when somebody asks for the progress."""
        self.stage = stage
        self._beside = beside or (lambda progress: progress)
        self._look, self._looked_at, self._kept = kept, -1e9, 0
        self.progress = Progress()
        self.out = out or sys.stdout
        self.clock = clock
        self.live = self.out.isatty()
        self._shown = -1e9
        self._line_open = False
        self._server: ThreadingHTTPServer | None = None
        self._warnings: dict[str, str] = {}
        self._found: list[str] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Answers for as long as a step is at work. What ends the step takes along what the step had found."""
        self.serve()
        try:
            yield
        except BaseException as error:
            leave_warnings(error, self.warnings)
            raise
        finally:
            self.close()

    def serve(self, environment: Mapping[str, str] = os.environ) -> int | None:
        """Answers /progress and /metrics on the port that the executor asked for; returns it, or None for no port.

        A port that is taken costs the figures, not the training.
        """
        wanted = environment.get(variables.PROGRESS_PORT_VARIABLE)
        if not wanted:
            return None
        host = environment.get(variables.PROGRESS_HOST_VARIABLE, "127.0.0.1")
        try:
            self._server = _server(host, int(wanted), self)
        except (OSError, ValueError) as error:
            self.log(f"no progress is served on {host}:{wanted}: {error}")
            return None
        threading.Thread(target=self._server.serve_forever, name="progress", daemon=True).start()
        return self._server.server_address[1]

    def reached(self) -> Progress | None:
        """Returns where training is, without what goes on there, but with what is wrong; None before the first step."""
        # The result has room for what was found beside it, and not twice.
        return self.progress.model_copy(update={"message": None, "warnings": None}) if self.progress.total else None

    def observed(self) -> Progress:
        """Returns the progress for whoever asks, with what the step keeps by now."""
        if self._look is None:
            return self._beside(self.progress)
        if self.clock() - self._looked_at >= KEPT_SECONDS:
            self._looked_at, self._kept = self.clock(), self._look()
        return self._beside(self.progress.model_copy(update={"kept": self._kept}))

    def say(self, message: str | None) -> None:
        """Shows what goes on when it is not a step: loading, writing a checkpoint."""
        self.progress = self.progress.model_copy(update={"message": (message or "")[:MESSAGE_LIMIT] or None})
        if message:
            self.log(message)

    def show(self, message: str) -> None:
        """Shows how far what goes on has come, without a line in the log."""
        self.progress = self.progress.model_copy(update={"message": message[:MESSAGE_LIMIT]})

    def warn(self, subject: str, message: str | None, *, again: bool = True) -> None:
        """Keeps a warning about a subject in the progress until it is taken back with None.

        `again`: whether the log says it also where there is one about the subject already.
        """
        before = self._warnings.pop(subject, None)
        if message is not None:
            self._warnings[subject] = message
            if before is None or again:
                self.log(f"WARNING: {message}")
        self.progress = self.progress.model_copy(update={"warning": self._warning})

    def add_warning(self, message: str, say: Say | None = None) -> None:
        """Says what whoever wrote the run should know, and keeps it: the run's record has it for good.

        `say`: told in place of the log.
        """
        self._found.append(message)
        (say or self.log)(f"WARNING: {message}")
        self.progress = self.progress.model_copy(update={"warnings": self.warnings})

    @property
    def warnings(self) -> list[str] | None:
        """What was found so far, as a result has it; None for nothing."""
        return bounded_warnings(self._found) or None

    def step(self, progress: Progress, *, force: bool = False) -> None:
        """Takes the figures of a step, and shows them when it is time to."""
        kept = {"warning": self._warning, "warnings": self.warnings}
        self.progress = progress.model_copy(update={"message": None, **kept})
        now = self.clock()
        if force or now - self._shown >= (LIVE_SECONDS if self.live else QUIET_SECONDS):
            self._shown = now
            self._show(line(self.stage, self.progress))

    def log(self, message: str) -> None:
        self._end_line()
        print(f"{self.stage}: {message}", file=self.out, flush=True)

    def close(self) -> None:
        self._end_line()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def metrics_text(self) -> bytes:
        """Returns what is known, as Prometheus reads it."""
        registry = CollectorRegistry()
        values = self.progress.model_dump()
        for name, text in _GAUGES.items():
            if (value := values[name.removesuffix("_ratio")]) is not None:
                Gauge(PREFIX + name, text, registry=registry).set(value)
        if self.progress.time_shares:
            shares = Gauge(PREFIX + _SHARES, _SHARES_TEXT, ["part"], registry=registry)
            for part, share in self.progress.time_shares.items():
                shares.labels(part).set(share)
        return generate_latest(registry)

    @property
    def _warning(self) -> str | None:
        return ". ".join(self._warnings.values())[:MESSAGE_LIMIT] or None

    def _show(self, text: str) -> None:
        if not self.live:
            print(text, file=self.out, flush=True)
            return
        # Back to the start and clear the rest, so that one line moves on in its place.
        print(f"\r{text}\x1b[K", end="", file=self.out, flush=True)
        self._line_open = True

    def _end_line(self) -> None:
        if self._line_open:
            print(file=self.out, flush=True)
            self._line_open = False


def line(stage: str, p: Progress) -> str:
    """Returns the figures of a step as people read them."""
    parts = [f"{stage}: step {p.step}/{p.total}", f"epoch {p.epoch:.2f}"]
    if p.loss is not None:
        parts.append(f"loss {p.loss:.4f}")
    if p.validation_loss is not None:
        parts.append(f"validation {p.validation_loss:.4f}")
    if p.accuracy is not None:
        parts.append(f"accuracy {p.accuracy:.2f}")
    if p.learning_rate is not None:
        parts.append(f"lr {p.learning_rate:.2e}")
    if p.tokens_per_second is not None:
        parts.append(f"{p.tokens_per_second:,.0f} tokens/s")
    if p.mfu is not None:
        parts.append(f"MFU {p.mfu:.0%}")
    if p.eta_seconds is not None:
        parts.append(f"{in_words(p.eta_seconds)} left")
    return " · ".join(parts)


class Metrics:
    """metrics.jsonl: one row a step, in the order of the steps, without a gap or a repetition over all attempts.

    What a full disk does not take is kept, and written with the next row that it takes.
    """

    def __init__(self, path: Path, *, after_step: int) -> None:
        """Opens the file for what comes after `after_step`; what an attempt wrote beyond it is taken back."""
        kept = [row for row in read(path) if row["step"] <= after_step]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
        # Without a buffer of the library's: it loses what it holds when a write fails.
        self._file = path.open("ab", buffering=0)
        self._unwritten = b""

    def write(self, row: Mapping[str, float | int | None]) -> None:
        """Raises OSError while the disk does not take it; the row is written later."""
        self._unwritten += (json.dumps(row) + "\n").encode()
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    @property
    def unwritten(self) -> int:
        """Rows that the disk has not taken yet."""
        return self._unwritten.count(b"\n")

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> list[dict]:
    """Returns the rows of metrics.jsonl; a last line that was cut off by a crash is left out."""
    rows: list[dict] = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return rows
    for entry in text.splitlines():
        try:
            row = json.loads(entry)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _server(host: str, port: int, reporter: Reporter) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/progress":
                body, kind = json.dumps(reporter.observed().to_document()).encode(), "application/json"
            elif self.path == "/metrics":
                body, kind = reporter.metrics_text(), CONTENT_TYPE_LATEST
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Who asks is no part of the user's log."""

    server = _Server((host, port), Handler)
    server.daemon_threads = True
    return server


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # Whoever asks waits for a second or so, and on a busy machine has gone by then.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
