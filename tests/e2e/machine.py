"""A folder in which `slipway` is used as a person uses it, and the sentences that the end-to-end tests are made of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.ports import free_port

SLIPWAY = str(Path(sys.prefix, "bin", "slipway"))

SMALL = """
apiVersion: slipway.dev/v1alpha1
kind: TrainingRun
metadata: {name: small}
spec:
  model:
    scratch: {layers: 2, hiddenSize: 64, heads: 2, maxLength: 256, tokenizer: {train: {vocabSize: 600}}}
  stages:
  - name: pretrain
    data:
      train: [{uri: package://tang}]
      validation: {everySteps: 10}
    maxLength: 128
    steps: 20
    batch: {sequences: 4}
    optimizer: {learningRate: 3e-3}
  - name: sft
    objective: Chat
    data: {train: [{uri: package://tang-recite}]}
    maxLength: 128
    steps: 10
    batch: {sequences: 4}
  checkpoints: {everySteps: 5, keep: 2}
  evaluation:
    data: [{uri: package://tang-held-out}]
    maxNewTokens: 16
    prompts: [{uri: package://tang-recall, recall: true}]
    gates:
    - {metric: bits_per_byte, max: 8, minTokens: 1000}
  serving: {endpoint: chat, template: {port: PORT, engine: {maxModelLength: 256}, rollout: {probation: 2s}}}
"""


def until(condition: Any, seconds: float = 120.0, what: str = "it") -> Any:
    """Waits until the condition holds and returns what it returned."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come to pass in {seconds} s"
        time.sleep(0.1)
    return value


@dataclass
class Machine:
    folder: Path
    port: int
    env: dict[str, str]

    @classmethod
    def at(cls, folder: Path, env: dict[str, str] | None = None) -> Machine:
        machine = cls(folder, free_port(), {**(env if env is not None else os.environ), "NO_COLOR": "1"})
        (folder / "small.yaml").write_text(SMALL.replace("PORT", str(machine.port)))
        return machine

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SLIPWAY, *arguments],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def slipway(self, *arguments: str, code: int = 0, timeout: float = 300) -> str:
        """Runs a command, checks its exit code, and returns what it printed."""
        process = self.start(*arguments)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == code, f"slipway {' '.join(arguments)}: exit {process.returncode}\n{output}"
        return output

    def status(self, name: str = "small") -> dict[str, Any]:
        return json.loads(self.slipway("status", name, "-o", "json")).get("status", {})

    def step(self, name: str, run: str = "small") -> dict[str, Any]:
        return next((s for s in self.status(run).get("stages", []) if s["name"] == name), {"state": "Pending"})

    def ask(self, message: str, **fields: Any) -> dict[str, Any]:
        response = httpx.post(f"{self.url}/chat", json={"message": message, **fields}, timeout=60)
        assert response.status_code == 200, response.text
        return response.json()

    @contextmanager
    def cleaned_up(self) -> Iterator[Machine]:
        try:
            yield self
        finally:
            subprocess.run(
                [SLIPWAY, "stop"], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, check=False, timeout=120
            )
