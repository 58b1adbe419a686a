"""What a process has used so far, as the kernel counts it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    cpu_seconds: float
    """User and system time of all its threads."""
    megabytes: float
    """Resident memory now."""
    peak_megabytes: float

    def __sub__(self, earlier: Usage) -> Usage:
        """Returns the processor time since then, and the memory as it is now."""
        return Usage(self.cpu_seconds - earlier.cpu_seconds, self.megabytes, self.peak_megabytes)


def usage_of(pid: int) -> Usage:
    """Reads it. Raises FileNotFoundError when there is no such process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    status = Path(f"/proc/{pid}/status").read_text()
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), _megabytes(status, "VmRSS"), _megabytes(status, "VmHWM"))


def _megabytes(status: str, field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
