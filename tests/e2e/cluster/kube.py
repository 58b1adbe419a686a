"""kubectl for tests: documents in, documents out, and sentences to wait by."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_port

from slipway_operator.kube.kinds import TRAINING_RUN

Document = dict[str, Any]


@dataclass(frozen=True)
class Kube:
    namespace: str
    program: str = "kubectl"

    def run(self, *arguments: str, text: str | None = None, check: bool = True, seconds: float = 60) -> str:
        command = [self.program, "-n", self.namespace, *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def apply(self, *documents: Document | Path) -> None:
        for document in documents:
            if isinstance(document, Path):
                self.run("apply", "-f", str(document))
            else:
                self.run("apply", "-f", "-", text=json.dumps(document))

    def get(self, kind: str, name: str) -> Document | None:
        out = self.run("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(out) if out.strip() else None

    def list(self, kind: str, selector: str = "") -> list[Document]:
        return json.loads(self.run("get", kind, "-l", selector, "-o", "json"))["items"]

    def status(self, kind: str, name: str) -> Document:
        return (self.get(kind, name) or {}).get("status", {})

    def versions(self, run: str) -> list[Document]:
        """Returns every version that there was of a run, in order; a cluster remembers the last few minutes."""
        made = self.get("namespace", self.namespace) or {}
        since = f"watch=1&timeoutSeconds=1&resourceVersion={made['metadata']['resourceVersion']}"
        told = self.run(
            "get", "--raw", f"{TRAINING_RUN.path(self.namespace)}?{since}&fieldSelector=metadata.name={run}"
        )
        events = [json.loads(line) for line in told.splitlines()]
        assert all(event["type"] != "ERROR" for event in events), told
        return [event["object"] for event in events]

    def phase(self, run: str) -> str:
        return self.status("trainingrun", run).get("phase", "")

    def wait_for_phase(self, run: str, *phases: str, seconds: float = 600) -> Document:
        """Returns the run once it is in one of the phases. Says what it is instead when it never gets there."""

        def there() -> Document | None:
            found = self.get("trainingrun", run) or {}
            phase = found.get("status", {}).get("phase")
            if phase in ("Failed", "Rejected", "Held") and phase not in phases:
                raise AssertionError(f"{run} is {phase}: {self.why(run)}")
            return found if phase in phases else None

        return wait(there, f"{run} to be {' or '.join(phases)}", seconds, lambda: self.why(run))

    def why(self, run: str) -> str:
        """What a person would look at when a run is not where it should be."""
        status = self.status("trainingrun", run)
        parts = [json.dumps(status, indent=1, ensure_ascii=False)[:6000]]
        parts.append(self.run("get", "pods,jobs,deployments,modelendpoints", "-o", "wide", check=False))
        parts.append(self.run("get", "events", "--sort-by=.lastTimestamp", check=False)[-3000:])
        return "\n".join(parts)

    @contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """The address on 127.0.0.1 of a port of a Service, Deployment or pod."""
        local = free_port()
        command = [self.program, "-n", self.namespace, "port-forward", target, f"{local}:{port}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert "Forwarding" in first, first + process.stdout.read()
            yield f"http://127.0.0.1:{local}"
        finally:
            process.terminate()
            process.wait(10)


def wait(
    look: Callable[[], Any], what: str, seconds: float, why: Callable[[], str] = lambda: "", pause: float = 1.0
) -> Any:
    """Returns what `look` returns once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(pause)
    raise AssertionError(f"waited {seconds:.0f} s for {what}\n{why()}")
