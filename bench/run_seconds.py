"""What a run on this machine costs, step by step, in seconds and in CPU-seconds: the README's table of the quickstart.

    .venv/bin/python -m bench.run_seconds examples/quickstart.yaml --workdir FOLDER [--set FIELD=VALUE]

It starts `slipway run` as anybody would, in a folder where the run has not been yet, and asks the kernel five times a
second what its processes have used, the endpoint's server included: they are known by a variable of their environment.
Seconds depend on what else the machine does; CPU-seconds hardly do. What a process uses in its last fifth of a second
is not seen. The endpoint goes on, and what it used is told until `slipway run` ended. What the gate took of all that,
part by part, is told below (`bench.gate_seconds`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench import gate_seconds
from bench.process_usage import usage_of

from slipway.local.state import State
from slipway_core.documents.loading import load_run
from slipway_core.resources.status import RunStatus

MARK = "SLIPWAY_BENCH_RUN"
PAUSE = 0.2
TRAINER, DAEMON = "slipway_trainer.main", "slipway.local.endpoints.daemon"
COMMAND, ROLLOUT = "slipway run", "rollout"


@dataclass(frozen=True)
class Process:
    parent: int
    words: tuple[str, ...]
    """Its command line."""


def step_of(pid: int, processes: Mapping[int, Process]) -> str:
    """Returns the step that a process works for: that of the nearest process from it upwards that has one."""
    while (one := processes.get(pid)) is not None:
        if TRAINER in one.words:
            words = one.words[one.words.index(TRAINER) + 1 :]
            return words[words.index("--stage") + 1] if "--stage" in words else words[0]
        if DAEMON in one.words:
            return ROLLOUT
        pid = one.parent
    return COMMAND


@dataclass
class Used:
    """CPU-seconds of the processes that carry a mark, by step."""

    mark: str
    _processes: dict[int, Process] = field(default_factory=dict[int, Process])
    _seconds: dict[int, float] = field(default_factory=dict[int, float])

    def look(self) -> None:
        """Adds what they have used since the last look."""
        for pid, process in _marked(self.mark):
            with suppress(FileNotFoundError, ProcessLookupError):
                self._seconds[pid] = usage_of(pid).cpu_seconds
                self._processes[pid] = process

    def by_step(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for pid, seconds in self._seconds.items():
            step = step_of(pid, self._processes)
            found[step] = found.get(step, 0.0) + seconds
        return found


def _marked(mark: str) -> Iterator[tuple[int, Process]]:
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # It is gone, or somebody else's.
            if wanted not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            yield int(folder.name), Process(int(parent), tuple(words))


def run(arguments: Sequence[str]) -> tuple[int, float, dict[str, float]]:
    """Runs `slipway run`. Returns its exit code, seconds, and CPU-seconds by step."""
    used, ended = Used(uuid.uuid4().hex), threading.Event()

    def watch() -> None:
        while not ended.wait(PAUSE):
            used.look()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    started = time.monotonic()
    command = [str(Path(sys.executable).with_name("slipway")), "run", *arguments]
    code = subprocess.run(command, env={**os.environ, MARK: used.mark}, check=False).returncode
    seconds = time.monotonic() - started
    ended.set()
    watching.join()
    used.look()
    return code, seconds, used.by_step()


def steps(status: RunStatus, live_since: str | None) -> Iterator[tuple[str, float]]:
    """Yields the seconds of each step of a run, and those from its verdict until it was live."""
    yield from gate_seconds.steps(status)
    if live_since is not None and (took := gate_seconds.since_verdict(status, live_since)) is not None:
        yield ROLLOUT, took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--workdir", type=Path, required=True, help="where the run has not been yet")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="Of the run; repeatable.")
    options = parser.parse_args()
    name = load_run(options.file.read_text(encoding="utf-8"), str(options.file), overrides=options.set).metadata.name
    if (options.workdir / ".slipway" / "runs" / name).exists():
        sys.exit(f"--workdir {options.workdir}: has a run {name} already, which would only go on; name another folder")
    sets = [word for one in options.set for word in ("--set", one)]
    code, seconds, used = run([str(options.file), "--workdir", str(options.workdir), *sets])
    state = State.below(options.workdir)
    status = state.existing_run(name).status()
    live = state.endpoint(status.endpoint.name).status().live if status.endpoint is not None else None
    told = dict(steps(status, live.since if live is not None else None))
    print("\n| step | seconds | CPU-seconds |\n|---|---|---|")
    for step in [*told, *(step for step in used if step not in told)]:
        print(f"| {step} | {told.get(step, float('nan')):.0f} | {used.get(step, 0.0):.1f} |".replace("nan", ""))
    print(f"| all | {seconds:.0f} | {sum(used.values()):.1f} |")
    if status.evaluation is not None:
        print("\n| what the gate took | seconds |\n|---|---|")
        for what, took in gate_seconds.rows(state, name):
            print(f"| {what} | {took:.1f} |")
    sys.exit(code)


if __name__ == "__main__":
    main()
