"""How much memory and how many cores this process may use, and has used: a container sees all of its machine and has a
part of it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/")
_UNLIMITED = 1 << 62


def available_memory(root: Path = ROOT) -> int:
    """Returns the bytes that can be had without swapping, or less where a control group (version 1 or 2) limits it."""
    groups = root / "sys/fs/cgroup"
    return min(
        _available(root / "proc/meminfo"),
        _left(groups / "memory.max", groups / "memory.current"),
        _left(groups / "memory/memory.limit_in_bytes", groups / "memory/memory.usage_in_bytes"),
    )


def resident_memory(root: Path = ROOT) -> int:
    """Returns the bytes that this process has in memory."""
    pages = int((root / "proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def peak_memory(root: Path = ROOT) -> int | None:
    """Returns the most bytes of memory that this program has held at once; None where the kernel does not tell.

    Not getrusage: there a program begins with the peak of the one that started it.
    """
    try:
        status = (root / "proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def usable_cores(root: Path = ROOT) -> int:
    """Returns the hardware threads that this process may use at once."""
    return _within_quota(len(os.sched_getaffinity(0)), root)


def usable_physical_cores(root: Path = ROOT) -> int:
    """Returns the same, two hardware threads of one core counted once."""
    siblings = {_siblings(cpu, root) for cpu in os.sched_getaffinity(0)}
    return _within_quota(len(siblings), root)


def _within_quota(cores: int, root: Path) -> int:
    try:
        quota, period = (root / "sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        limit = _UNLIMITED if quota == "max" else int(quota) // int(period)
    except (OSError, ValueError):  # No such group, or another version of them.
        limit = _UNLIMITED
    return max(1, min(cores, limit))


def _siblings(cpu: int, root: Path) -> str:
    try:
        return (root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _available(meminfo: Path) -> int:
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _UNLIMITED


def _left(limit: Path, used: Path) -> int:
    try:
        return max(0, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # No such group, or "max".
        return _UNLIMITED
