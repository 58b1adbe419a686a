"""A Prometheus of a test's own: a process on a free port, its storage in a folder that goes with the test."""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from tests.e2e.cluster.kube import Kube, wait
from tests.e2e.cluster.monitors import ApiServer
from tests.ports import free_port

Document = dict[str, Any]
_START_SECONDS = 30


@dataclass(frozen=True)
class Sample:
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[Sample]:
        """Returns the instant vector or the scalar. Fails with what Prometheus says to an expression."""
        data = self._get("query", query=expression)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(series["metric"], float(series["value"][1])) for series in data["result"]]

    def value(self, expression: str) -> float | None:
        """Returns the one number of an expression; None without any."""
        found = self.query(expression)
        assert len(found) < 2, f"{expression} has {len(found)} series: {found}"
        return found[0].value if found else None

    def over_time(self, series: str, window: str) -> dict[str, list[float]]:
        """Returns the numbers that a series had, oldest first, by the pod that said them."""
        data = self._get("query", query=f"{series}[{window}]")
        told = {each["metric"]["pod"]: [float(value) for _, value in each["values"]] for each in data["result"]}
        return {pod: [value for value in values if math.isfinite(value)] for pod, values in told.items()}

    def targets(self) -> list[Document]:
        return self._get("targets", state="active")["activeTargets"]

    def rules(self) -> list[Document]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=30).json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]


@contextmanager
def running(program: str, configuration: Document, folder: Path) -> Iterator[Prometheus]:
    """Starts it with a configuration and ends it afterwards."""
    file, log, port = folder / "prometheus.yml", folder / "prometheus.log", free_port()
    # JSON is YAML.
    file.write_text(json.dumps(configuration, indent=1))
    options = {
        "config.file": file,
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "warn",
    }
    with log.open("w") as out:
        command = [program, *(f"--{name}={value}" for name, value in options.items())]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    found = Prometheus(f"http://127.0.0.1:{port}")
    try:
        wait(lambda: _is_ready(found, process, log), "Prometheus to be ready", _START_SECONDS, log.read_text, pause=0.2)
        yield found
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(found: Prometheus, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"Prometheus has ended: {log.read_text()}"
    try:
        return httpx.get(f"{found.url}/-/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def api_server(kube: Kube, folder: Path) -> ApiServer:
    """Reads the address and the certificates of the current context; the files go into the folder."""
    config = json.loads(kube.run("config", "view", "--minify", "--raw", "--flatten", "-o", "json"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    files = {
        "ca": base64.b64decode(cluster["certificate-authority-data"]),
        "certificate": base64.b64decode(user["client-certificate-data"]),
        "key": base64.b64decode(user["client-key-data"]),
    }
    for name, content in files.items():
        with open(folder / name, "wb", opener=_private) as file:
            file.write(content)
    address = urlsplit(cluster["server"]).netloc
    return ApiServer(address, **{name: folder / name for name in files})


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
