"""A real `slipway-server` process, started by a test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from tests.ports import free_port


class RunningServer:
    """`slipway-server` on a free port of 127.0.0.1, with its output in a file."""

    def __init__(self, folder: Path, model: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.log = folder / "server.log"
        # What vLLM leaves there, however it ends. Not in `folder`: paths of sockets are short.
        self._temporary = tempfile.mkdtemp(prefix="slipway-test-")
        command = [sys.executable, "-m", "slipway_serving", "--model", str(model), "--served-name", "tiny"]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), "--kv-cache-gib", "0.1", *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**(os.environ if env is None else env), "TMPDIR": self._temporary},
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self, seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"exit code {self.process.returncode}\n{self.output()[-6000:]}"
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not ready after {seconds} s\n{self.output()[-6000:]}")

    def wait_for_output(self, text: str, seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.output():
            assert time.monotonic() < deadline, f"no {text!r} after {seconds} s\n{self.output()[-6000:]}"
            time.sleep(0.05)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in text.split()]

    def stop(self) -> None:
        """Ends the process whatever its state: the last resort of a fixture."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        shutil.rmtree(self._temporary, ignore_errors=True)


def is_running(pid: int) -> bool:
    """Tells whether a process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until_gone(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still running after {seconds} s: {[p for p in pids if is_running(p)]}"
        time.sleep(0.05)


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, **changes}
