import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway_host.limits import (
    available_memory,
    peak_memory,
    resident_memory,
    usable_cores,
    usable_physical_cores,
)


def a_machine(root: Path, **files: str) -> Path:
    """Writes what the kernel shows: names with `_` for `/` are too long to read, so the paths are given whole."""
    for name, text in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:       5 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 5120),
        ({"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "400\n"}, 600),
        ({"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "400\n"}, 5120),
        ({"sys/fs/cgroup/memory.max": "400\n", "sys/fs/cgroup/memory.current": "1000\n"}, 0),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "900\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "100\n",
            },
            800,
        ),
    ],
)
def test_memory_is_what_is_available_or_what_the_container_has_left(tmp_path: Path, files, expected):
    assert available_memory(a_machine(tmp_path, **files)) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("150000 50000\n", 3), ("10000 100000\n", 1), ("max 100000\n", 8), ("", 8)]
)
def test_cores_of_a_container_are_its_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert usable_cores(a_machine(tmp_path, **{"sys/fs/cgroup/cpu.max": text})) == expected


def test_two_threads_of_one_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    root = a_machine(tmp_path, **{topology.format(cpu): f"{cpu % 2},{cpu % 2 + 2}\n" for cpu in range(4)})
    assert (usable_physical_cores(root), usable_cores(root)) == (2, 4)


def test_the_peak_of_a_program_is_its_own_and_not_that_of_the_one_that_started_it(tmp_path: Path):
    held = bytearray(64 << 20)
    code = "from slipway_host.limits import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    mine = peak_memory()
    assert mine is not None
    assert child < len(held) < mine
    assert peak_memory(tmp_path) is None, "another kernel"


def test_this_machine_has_both():
    assert available_memory() > 0
    assert 1 <= usable_physical_cores() <= usable_cores()


def test_what_a_process_holds_grows_with_what_it_writes() -> None:
    before = resident_memory()
    held = bytearray(b"x") * (64 << 20)
    assert 60 << 20 < resident_memory() - before < 80 << 20
    assert held
