"""What this machine's processor can compute with."""

from __future__ import annotations

from pathlib import Path


def flags(root: Path = Path("/")) -> frozenset[str] | None:
    """Returns what an x86 processor has, by the kernel's names for it; None where the kernel does not say it."""
    try:
        lines = (root / "proc" / "cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)
