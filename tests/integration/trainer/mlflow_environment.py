"""The whole MLflow server, in an environment of its own: Slipway ships the slim client alone."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tests import programs
from tests.ports import free_port


def environment() -> Path:
    """Returns its Python, of the client's version. It is made once a machine, in the tests' cache."""
    wanted = version("mlflow-skinny")
    folder = programs.folder().parents[1] / f"mlflow-{wanted}-py{sys.version_info.major}{sys.version_info.minor}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    python, whole = folder / "bin/python", folder / ".whole"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            uv = str(Path(sys.executable).with_name("uv"))
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
            install = [uv, "pip", "install", "--quiet", "--python", str(python), f"mlflow=={wanted}"]
            subprocess.run(install, check=True)
            whole.touch()
    return python


@contextmanager
def mlflow_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """Serves an empty store, or the one that is in the folder; yields the address."""
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(environment()), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "files")]
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            _wait(server, f"{address}/health", folder / "server.log")
            yield address
        finally:
            # It would wait for the connections that its clients keep.
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(30)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path, seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"no answer within {seconds:g} s: {log.read_text()[-2000:]}")
