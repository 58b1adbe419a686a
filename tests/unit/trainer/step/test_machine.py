"""What a container lets a process use."""

from pathlib import Path

from slipway_trainer.step import machine


def test_memory_of_a_container_is_its_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert machine._cgroup(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._cgroup(tmp_path) > 1 << 60
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 5 kB\n")
    assert machine._available(tmp_path / "meminfo") == 5120


def test_cores_of_a_container_are_its_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert machine._quota(tmp_path / "cpu.max", 64) == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine._quota(tmp_path / "cpu.max", 64) == 64
    assert machine.physical_cores() >= 1
