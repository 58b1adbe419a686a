"""The operator as a process of its own, with the rights that the chart gives its service account."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from tests.integration.api_client import eventually
from tests.ports import free_port

QUICK = {
    "progressSeconds": 1,
    "backoff": "1s",
    "longestBackoff": "2s",
    "nodeLostSeconds": 1,
    # They stand on the control plane of the tests.
    "admissionPolicies": True,
}
"""Settings under which a test need not wait for what a person would not notice."""


_COMMAND = f"""
import ctypes
ctypes.CDLL(None).prctl(1, {int(signal.SIGKILL)})  # It ends with the thread that started it: with the tests.
from slipway_operator.main import main
main()
"""


@dataclass
class OperatorProcess:
    kubeconfig: Path
    folder: Path
    """Its settings and its log."""
    settings: dict[str, Any]
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Starts it, and waits until its watches have. Raises AssertionError with the end of its log."""
        self.spawn()
        try:
            eventually(self.is_ready, "the operator is ready", 120)
        except AssertionError:
            # Two at work on one API server would fail every test after this one.
            self.kill()
            raise AssertionError(f"the operator is not ready: {self.log[-3000:]}") from None

    def spawn(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        config = self.folder / "config.yaml"
        # Each process has a Lease of its own: one that was killed keeps the next from leading for 15 s.
        own = {"port": self.port, "lease": {"name": f"operator-{uuid.uuid4().hex}"}}
        config.write_text(yaml.safe_dump({**QUICK, **own, **self.settings}))
        command = [
            sys.executable,
            "-c",
            _COMMAND,
            "--config",
            config,
            "--kubeconfig",
            self.kubeconfig,
        ]
        env = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        with (self.folder / "operator.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)

    def is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the operator ended with {self.process.returncode}")
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is said."""
        process = self.process
        assert process is not None
        process.kill()
        process.wait()

    def stop(self) -> int:
        """SIGTERM. Returns how it ended."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the operator did not end within 20 s of SIGTERM") from None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return (self.folder / "operator.log").read_text(errors="replace")
