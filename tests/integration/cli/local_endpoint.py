"""An endpoint in a temporary state folder, driven as the local runner drives it: by files, and over its port."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.unit.core.statements import judgement

from slipway.local import ports
from slipway.local.endpoints import daemon as endpoint_daemon
from slipway.local.files import write_json
from slipway.local.processes import is_alive
from slipway.local.state import EndpointFolder, State
from slipway.local.statements import Statements
from slipway_core.protocol import parity
from slipway_core.protocol.envelope import seal
from slipway_core.protocol.statement import Statement
from slipway_core.resources import conditions
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import Condition, EndpointPhase, EndpointStatus, Verdict
from slipway_host.files import write_atomically

DAEMON = (sys.executable, "-P", str(Path(__file__).with_name("stand_in_endpoint_daemon.py")))
WAIT_SECONDS = 30.0


def digest_of(model: str) -> str:
    return "sha256:" + model.encode().hex().ljust(64, "0")


class LocalEndpoint:
    def __init__(self, folder: Path, name: str = "chat", daemon: tuple[str, ...] = DAEMON) -> None:
        self.folder = folder
        self.state = State.below(folder)
        self.port = ports.private_port()
        self.daemon = daemon
        self.files: EndpointFolder = self.state.endpoint(name)
        self.url = f"http://127.0.0.1:{self.port}"
        self._generation = 0
        self._seen: set[int] = set()

    # --- what a run does -----------------------------------------------------------------------------------------

    def model(self, name: str, **behaviour: Any) -> None:
        """Makes a model of that name, or changes how its server behaves."""
        write_json(self.folder / "models" / name / "behaviour.json", behaviour)

    def passes(self, name: str, digest: str | None = None, *, record: Path | None = None) -> None:
        """A run's gate lets it through. `record`: of parity; stand-ins read none."""
        self.judged(digest or digest_of(name), record=b"{}" if record is None else record.read_bytes())

    def judged(
        self, digest: str, verdict: Verdict = Verdict.PASS, *, record: bytes | None = b"{}", **fields: Any
    ) -> Path:
        """Keeps a statement on a model, and the record of parity, as a run does. `record`: None is of an evaluation
        that left none."""
        if record is not None:
            fields["parity"] = parity.digest_of(record)
            kept = self.state.parity(fields["parity"])
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, record)
        statement = Statement.about(digest, judgement(verdict, **fields))
        path = self.state.statements(digest) / f"{verdict.value}-{statement.predicate.evaluation}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, seal(statement, Statements(self.state).signing_key()))
        return path

    def ask_for(self, model: str, *, digest: str | None = None, **spec: Any) -> None:
        """Tells the endpoint what to serve. Probation and drain are short unless the spec says otherwise."""
        self._generation += 1
        served = {"uri": f"file://{self.folder}/models/{model}", "digest": digest or digest_of(model), "run": model}
        rollout = {"probation": "1s", "drain": "5s", "startTimeout": "20s", **spec.pop("rollout", {})}
        document = {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelEndpoint",
            "metadata": {"name": self.files.name, "generation": self._generation},
            "spec": {"port": self.port, "rollout": rollout, "model": served, **spec},
        }
        self.files.save(ModelEndpoint.model_validate(document, by_alias=True, by_name=False))

    def start(self) -> None:
        endpoint_daemon.ensure_daemon(self.state, self.files.name, command=self.daemon)
        self._remember_processes()

    def serve(self, model: str, **spec: Any) -> None:
        """Has a model that passed go live, from nothing."""
        if not (self.folder / "models" / model).exists():
            self.model(model)
        self.passes(model)
        self.ask_for(model, **spec)
        self.start()
        self.wait_until_live(1)

    def roll_out(self, model: str, *, rollout: dict[str, Any] | None = None, **behaviour: Any) -> None:
        """Has the endpoint asked for another model that passed."""
        self.model(model, **behaviour)
        self.passes(model)
        self.ask_for(model, rollout=rollout or {})

    def stop(self) -> None:
        endpoint_daemon.stop_daemon(self.state, self.files.name)

    # --- what one sees -------------------------------------------------------------------------------------------

    @property
    def status(self) -> EndpointStatus:
        return self.files.status()

    def events(self) -> list[str]:
        path = self.files.root / "events.jsonl"
        return [json.loads(line)["reason"] for line in path.read_text().splitlines()] if path.exists() else []

    def daemon_pid(self) -> int:
        process = self.files.daemon()
        assert process is not None, self.log()
        return process.pid

    def servers(self) -> list[int]:
        """Processes that the daemon has started and that still run."""
        process = self.files.daemon()
        if process is None:
            return []
        text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def condition(self, type_: str) -> Condition | None:
        return conditions.find(self.status.conditions, type_)

    def judged_reason(self) -> str | None:
        judged = self.condition("Judged")
        return judged.reason if judged is not None else None

    def server_variable(self, name: str) -> str | None:
        """Returns a variable of the one server that runs."""
        (server,) = self.servers()
        rows = Path(f"/proc/{server}/environ").read_text().split("\0")
        return dict(row.split("=", 1) for row in rows if "=" in row).get(name)

    def get(self, path: str = "/") -> httpx.Response:
        return httpx.get(self.url + path, timeout=10)

    def chat(self, client: httpx.Client | None = None, **fields: Any) -> httpx.Response:
        post = client.post if client is not None else httpx.post
        return post(f"{self.url}/chat", json={"message": "hello", **fields}, timeout=20)

    def answers_with(self) -> str:
        return self.chat().json()["response"]

    def log(self) -> str:
        return self.files.log.read_text() if self.files.log.exists() else "(no log)"

    # --- waiting -------------------------------------------------------------------------------------------------

    def wait(self, until: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            self._remember_processes()
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self.status}\n{self.log()}"
            time.sleep(0.02)
        self._remember_processes()

    def wait_until_told(self, *reasons: str) -> None:
        """Waits until these were the last of the events with one of these reasons: they come after the status."""

        def told() -> bool:
            return [reason for reason in self.events() if reason in reasons][-len(reasons) :] == list(reasons)

        self.wait(told, f"the events {', '.join(reasons)}")

    def wait_until_live(self, version: int, seconds: float = WAIT_SECONDS) -> None:
        def lives() -> bool:
            status = self.status
            return status.live is not None and status.live.version == version and status.phase == EndpointPhase.SERVING

        self.wait(lives, f"version {version} serves", seconds)

    def wait_until_failed(self, version: int, seconds: float = 20) -> None:
        def failed() -> bool:
            return any(v.version == version and v.state == "Failed" for v in self.status.history)

        self.wait(failed, f"version {version} failed", seconds)

    def kill_daemon(self) -> None:
        process = self.files.daemon()
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        self.wait(lambda: not is_alive(process), "the daemon is gone")

    def _remember_processes(self) -> None:
        process = self.files.daemon()
        if process is not None:
            self._seen |= {process.pid, *self.servers()}

    def clean_up(self) -> None:
        """Leaves nothing behind, however the test ended."""
        process = self.files.daemon()
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)
        self.wait(lambda: not any(_is_ours(pid, self.folder) for pid in self._seen), "all processes are gone")


def _is_ours(pid: int, folder: Path) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" and str(folder) in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


@dataclass
class Traffic:
    """Steady requests by a client that keeps its connection and by one that does not, and long streams."""

    endpoint: LocalEndpoint
    per_second: float = 20.0
    fields: dict[str, Any] = field(default_factory=dict)
    """More fields of each request."""
    answers: list[str] = field(default_factory=list)
    streams: list[list[str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Traffic:
        for work in (self._ask_on_one_connection, self._ask_on_new_connections):
            self._run(work)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def stream(self, pieces: int) -> None:
        """Starts a stream in the background, and returns once its first piece is there."""
        lines: list[str] = []
        self.streams.append(lines)
        self._run(self._stream, pieces, lines)
        self.endpoint.wait(lambda: bool(lines or self.failures), "a stream has begun")

    def _run(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _ask_on_one_connection(self) -> None:
        with httpx.Client(limits=httpx.Limits(max_connections=1)) as client:
            while not self._stop.wait(2 / self.per_second):
                self._ask(client)

    def _ask_on_new_connections(self) -> None:
        while not self._stop.wait(2 / self.per_second):
            self._ask(None)

    def _ask(self, client: httpx.Client | None) -> None:
        try:
            answer = self.endpoint.chat(client, **self.fields)
            answer.raise_for_status()
            self.answers.append(answer.json()["response"])
        except (httpx.HTTPError, ValueError) as error:
            self.failures.append(f"{time.monotonic():.2f} {error!r}")

    def _stream(self, pieces: int, lines: list[str]) -> None:
        body = {"message": "hello", "stream": True, "max_length": pieces}
        try:
            with httpx.stream("POST", f"{self.endpoint.url}/chat", json=body, timeout=30) as answer:
                answer.raise_for_status()
                lines.extend(line for line in answer.iter_lines() if line)
        except httpx.HTTPError as error:
            self.failures.append(f"stream: {error!r}")
        if len(lines) != pieces + 1 or lines[-1] != "data: [DONE]":
            self.failures.append(f"stream: {len(lines)} of {pieces + 1} events")
