"""The background process of an endpoint: it owns the port and the servers, and outlives the `slipway run` that
started it.

`python -m slipway.local.endpoints.daemon --state .slipway --name chat` is the process; `ensure_daemon` and
`stop_daemon` are what the commands use.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.local.endpoints import server_log
from slipway.local.ports import Holder, port_in_use
from slipway.local.processes import ProcessId, is_alive, signal_leader
from slipway.local.state import BusyError, EndpointFolder, State, StateError
from slipway_core.resources.api import seconds

if TYPE_CHECKING:
    from slipway.local.endpoints.executor import EndpointExecutor

__all__ = ["DaemonError", "Holder", "ensure_daemon", "port_in_use", "stop_daemon"]

COMMAND = (sys.executable, "-P", "-m", "slipway.local.endpoints.daemon")
START_SECONDS = 60.0
"""For the daemon to take its port: it imports a little and loads no model."""
_KILL_MARGIN = 20.0
"""Seconds that a daemon may take to end beyond the drain of its servers and their own margin."""
_REFUSED = 2
_BUSY = 75


class DaemonError(StateError):
    """The endpoint's process could not start; the message is its own last word."""


def ensure_daemon(state: State, name: str, *, command: Sequence[str] = COMMAND, timeout: float = START_SECONDS) -> None:
    """Starts the endpoint's process if none is alive, and returns once it owns the port.

    Callers may race: the endpoint's lock lets one process through. One that is just ending counts as alive; call
    again when it is gone.

    Raises DaemonError with the cause: the port is in use, the endpoint is damaged.
    """
    folder = state.endpoint(name)
    deadline = time.monotonic() + timeout
    child: subprocess.Popen[bytes] | None = None
    while folder.daemon() is None:
        code = child.poll() if child is not None else _BUSY
        if code == _BUSY:
            child = _spawn(state, folder, command)
        elif code is not None:
            raise DaemonError(f"endpoint {name} cannot start: {_last_word(folder)}")
        if time.monotonic() > deadline:
            raise DaemonError(f"endpoint {name} did not start within {timeout:g} s: {_last_word(folder)}")
        time.sleep(0.05)


def stop_daemon(state: State, name: str, timeout: float | None = None) -> None:
    """Lets running answers complete, then ends the endpoint's process and its servers. Does nothing when none runs.

    Args:
        timeout: seconds until it is killed; as long as the endpoint's drain may take when left out.
    """
    folder = state.endpoint(name)
    process = folder.daemon()
    if process is None:
        return
    if timeout is None:
        timeout = _longest_end(folder)
    signal_leader(process, signal.SIGTERM)
    if not _wait_for_end(process, timeout):
        signal_leader(process, signal.SIGKILL)  # Its servers end with it.
        _wait_for_end(process, 10.0)


def _spawn(state: State, folder: EndpointFolder, command: Sequence[str]) -> subprocess.Popen[bytes]:
    server_log.bound(folder.log)
    with folder.log.open("ab") as output:
        return subprocess.Popen(
            [*command, "--state", str(state.root), "--name", folder.name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=state.root,
            start_new_session=True,
        )


def _last_word(folder: EndpointFolder) -> str:
    lines = folder.log.read_text(encoding="utf-8", errors="replace").split("\n") if folder.log.exists() else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), f"it said nothing; see {folder.log}")
    return said.removeprefix("slipway: ")


def _longest_end(folder: EndpointFolder) -> float:
    try:
        drain = seconds(folder.load().spec.rollout.drain)
    except StateError:
        drain = 30
    return drain + _KILL_MARGIN


def _wait_for_end(process: ProcessId, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# ------------------------------------------------------------------------------------------------ the process itself


def real_executor(state: State, name: str) -> EndpointExecutor:
    # Here, since the commands that import this module need none of it.
    from slipway.local.endpoints.executor import EndpointExecutor

    return EndpointExecutor(state, name)


def main(arguments: Sequence[str] | None = None, make: Callable[[State, str], EndpointExecutor] = real_executor) -> int:
    """Runs the daemon until SIGTERM. Returns its exit code."""
    parser = argparse.ArgumentParser(prog="slipway.local.endpoints.daemon")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--name", required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # It logs every look at a server.
    state = State(options.state)
    folder = state.endpoint(options.name)
    try:
        with folder.lock():
            asyncio.run(_serve(folder, make(state, folder.name)))
    except BusyError:
        return _BUSY
    except StateError as error:
        print(f"slipway: {error}", flush=True)
        return _REFUSED
    return 0


async def _serve(folder: EndpointFolder, executor: EndpointExecutor) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await executor.open()
    folder.save_daemon(ProcessId.of(os.getpid()))
    await executor.work(stop)


if __name__ == "__main__":
    sys.exit(main())
