"""Processes that outlive the one that looks at them: identity beyond the pid, and an end that is sure."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from slipway_host.parent import end_with


@dataclass(frozen=True)
class ProcessId:
    """A process that leads a group of its own. The start time tells it from a later process with the same pid."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        return cls(pid, start_ticks(pid) or 0)

    def to_document(self) -> dict[str, int]:
        return {"pid": self.pid, "startTicks": self.start_ticks}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ProcessId:
        return cls(int(document["pid"]), int(document["startTicks"]))


def start_ticks(pid: int) -> int | None:
    """Returns when a process started, in clock ticks since boot; None when it is gone or a zombie."""
    fields = _stat(f"/proc/{pid}/stat")
    return int(fields[19]) if fields and _has_threads(str(pid), fields) else None


def is_alive(process: ProcessId) -> bool:
    return process.pid > 0 and start_ticks(process.pid) == process.start_ticks


def group_is_alive(leader: ProcessId) -> bool:
    """Whether any process of the group is left, the leader or one that survived it."""
    if is_alive(leader):
        return True
    if start_ticks(leader.pid) is not None:
        return False  # The pid belongs to somebody else by now, so the group is gone.
    return any(_group_of(entry.name) == leader.pid for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _group_of(pid: str) -> int | None:
    fields = _stat(f"/proc/{pid}/stat")
    return int(fields[2]) if fields and _has_threads(pid, fields) else None


def _has_threads(pid: str, fields: list[str]) -> bool:
    """Whether a process is more than a zombie. While a large one ends, its first thread is a zombie already and the
    others are not, and it cannot be waited for yet."""
    if fields[0] not in ("Z", "X"):
        return True
    tasks = Path(f"/proc/{pid}/task")
    try:
        threads = [_stat(f"{tasks}/{name}/stat") for name in os.listdir(tasks)]
    except OSError:
        return False
    return any(thread and thread[0] not in ("Z", "X") for thread in threads)


def _stat(path: str) -> list[str] | None:
    """Returns the fields of a stat file behind the name, which may hold spaces; the first one is the state."""
    try:
        return Path(path).read_text().rpartition(")")[2].split()
    except OSError:
        return None


def signal_group(leader: ProcessId, number: signal.Signals) -> None:
    """Sends a signal to all processes of a group, and to nobody else when it is gone."""
    if group_is_alive(leader):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, number)


def signal_leader(leader: ProcessId, number: signal.Signals) -> None:
    """Sends a signal to the leader alone, which passes it on as it sees fit."""
    if is_alive(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader.pid, number)


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Returns a `preexec_fn`: the kernel sends the signal to the child when its parent ends, however that ends."""
    parent = os.getpid()

    def set_signal() -> None:
        if not end_with(parent, number):
            os.kill(os.getpid(), number)

    return set_signal


def end(process: Popen[bytes], *, grace: float) -> int:
    """Ends a child: SIGTERM to it, SIGKILL to its whole group after the grace period in seconds. Returns its code."""
    leader = ProcessId.of(process.pid)
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if leader.start_ticks:
        signal_group(leader, signal.SIGKILL)
    return process.wait()
