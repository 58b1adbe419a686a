"""What each test costs: `make test DURATIONS=60` ends with the 60 dearest, in CPU-seconds and in seconds.

CPU-seconds are those of the test's process and of all that it started, of what has ended and of what still lives, such
as a server that a whole file shares. A busy machine changes them little where it makes seconds ten times as many; and
many seconds beside few CPU-seconds on a quiet one are a wait. What a process took that lost its parent and ended is not
seen. The last lines say when each worker was done, and with how much.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Generator
from pathlib import Path

import pytest

_MARK = "SLIPWAY_TEST_PROCESS"
_TICKS = os.sysconf("SC_CLK_TCK")
_COST = "cost"


class Costs:
    """Costs of tests by their ids; with pytest-xdist the workers measure and the process that prints gathers."""

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self._all: dict[str, tuple[float, float]] = {}
        self._workers: dict[str, tuple[float, float]] = {}
        """When each was done, and its CPU-seconds."""
        self._worker = os.environ.get("PYTEST_XDIST_WORKER", "the only process")
        # What is started from here on inherits it.
        os.environ[_MARK] = str(os.getpid())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        self._begun = cpu_seconds(), time.monotonic()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, object]:
        report = yield
        if call.when == "teardown":
            cpu, began = self._begun
            # Less than nothing where a control plane ended, which has no parent.
            cost = max(0.0, cpu_seconds() - cpu), time.monotonic() - began, self._worker, time.time()
            report.user_properties.append((_COST, cost))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, cost in report.user_properties:
            if name == _COST:
                cpu, seconds, worker, ended = cost  # type: ignore[misc]
                self._all[report.nodeid] = cpu, seconds
                self._workers[worker] = ended, self._workers.get(worker, (0.0, 0.0))[1] + cpu

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        by_file: dict[str, tuple[float, float]] = {}
        for name, (cpu, seconds) in self._all.items():
            file = name.partition("::")[0]
            before = by_file.get(file, (0.0, 0.0))
            by_file[file] = before[0] + cpu, before[1] + seconds
        for title, costs in (("tests", self._all), ("files", by_file)):
            terminalreporter.section(f"the dearest {title}, of {sum(cpu for cpu, _ in costs.values()):.0f} CPU-seconds")
            for name, (cpu, seconds) in sorted(costs.items(), key=lambda one: -one[1][0])[: self._shown]:
                terminalreporter.line(f"{cpu:8.1f} CPU-s {seconds:8.1f} s  {name}")
        last = max((ended for ended, _ in self._workers.values()), default=0.0)
        for worker, (ended, cpu) in sorted(self._workers.items()):
            terminalreporter.line(
                f"{worker} took {cpu:.0f} CPU-seconds and was done {last - ended:.0f} s before the end"
            )


def cpu_seconds() -> float:
    """Returns those of this process and of all that it started so far."""
    ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in ended) + sum(map(_of_living, Path("/proc").glob("[0-9]*")))


def _of_living(process: Path) -> float:
    mark = f"{_MARK}={os.getpid()}".encode()
    try:
        if process.name == str(os.getpid()) or mark not in (process / "environ").read_bytes().split(b"\0"):
            return 0.0
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Costs(int(os.environ.get("DURATIONS", "60"))))
