"""What this machine, or the container on it, lets a process use: memory and processors.

It needs no library, so that a launcher can ask before anything heavy is imported.
"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device_type: str, local_world: int) -> int:
    """Returns the free memory of one process: of its GPU, or its share of the machine's or container's."""
    if device_type == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    return min(_available(Path("/proc/meminfo")), _cgroup(_CGROUP)) // max(1, local_world)


def physical_cores() -> int:
    """Returns the cores that this process may use; two hardware threads of one core count once."""
    allowed = os.sched_getaffinity(0)
    cores: set[str] = set()
    for cpu in allowed:
        try:
            text = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            text = str(cpu)
        cores.add(text)
    return max(1, min(len(cores), _quota(_CGROUP / "cpu.max", len(allowed))))


def available_processors() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _available(meminfo: Path) -> int:
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def _cgroup(folder: Path) -> int:
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return 1 << 62
    return 1 << 62 if limit == "max" else max(0, int(limit) - used)


def _quota(path: Path, otherwise: int) -> int:
    try:
        quota, period = path.read_text().split()
    except (OSError, ValueError):
        return otherwise
    return otherwise if quota == "max" else max(1, int(quota) // int(period))
