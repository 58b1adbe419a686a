"""Ranks that start in a second: forked from a process that has imported what they need, for ten CPU-seconds, once.

What is forked is the rank that the launcher starts (`launching.rank`), with signals, result and exit code of its own,
or a script. Only the launcher is missing. `python nursery.py` reads orders, one JSON a line, and answers each with a
line.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.integration.trainer.training import Training

    from slipway_core.protocol.step_result import StepResult

PATIENCE = 600.0
"""Seconds after which a rank that has not ended is killed."""


@dataclass
class Group:
    """The ranks of one attempt."""

    nursery: Nursery
    pids: list[int]
    folder: Path
    """Of what they say: results and logs."""

    def signal(self, number: int, *ranks: int) -> None:
        """Sends a signal to some ranks, or to all; one that has ended hears nothing."""
        for rank in ranks or range(len(self.pids)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pids[rank], number)

    @property
    def alive(self) -> bool:
        """Whether none has ended."""
        return len(self._left()) == len(self.pids)

    def _left(self) -> list[int]:
        states = {pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in self.pids}
        return [pid for pid, state in states.items() if state != "Z"]

    def wait(self, grace: float | None = None) -> list[int]:
        """Returns the exit codes once all have ended; that of one that a signal killed is negative.

        Args:
            grace: seconds after which those that are left are killed, as the launcher does: a rank that waits for one
                that never started hears of nothing else.
        """
        if grace is not None:
            deadline = time.monotonic() + grace
            while self._left() and time.monotonic() < deadline:
                time.sleep(0.01)
            for pid in self._left():
                os.kill(pid, signal.SIGKILL)
        return [self.nursery.ask({"wait": pid}) for pid in self.pids]

    def finish(self) -> None:
        """Waits for the end, which must be a good one."""
        codes = self.wait()
        assert codes == [0] * len(self.pids), f"{codes}\n{self.said()}"

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def result(self) -> StepResult:
        from slipway_core.protocol import step_result

        return step_result.decode((self.folder / "0.json").read_text())


class Nursery:
    """The process that ranks are forked from."""

    def __init__(self) -> None:
        self._process = self._opened()

    def _opened(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def ask(self, order: dict[str, Any]) -> int:
        if self._process.poll() is not None:
            self._process = self._opened()
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            return int(self._process.stdout.readline())
        except BaseException:
            # Of a test whose time was over. What it would still answer is not for the next one.
            self.close()
            raise

    def start(self, run: Training, *, world: int = 1, attempt: int = 1, stage: str = "pretrain") -> Group:
        """Starts the ranks of an attempt."""
        from tests.ports import free_port  # As a script this file knows nothing of the others.

        folder = run.workspace.root.parent / f"ranks-{stage}-{attempt}"
        folder.mkdir(exist_ok=True)
        port = free_port()
        pids: list[int] = []
        for rank in range(world):
            environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
                environment |= {name: str(value), f"LOCAL_{name}": str(value)}
            arguments = ["--plan", run.workspace.plan, "--workspace", run.workspace.root, "--stage", stage]
            arguments += ["--attempt", attempt, "--results", folder]
            log = str(folder / f"{rank}.log")
            pids.append(self.ask({"arguments": [str(word) for word in arguments], "env": environment, "log": log}))
        return Group(self, pids, folder)

    def train(self, run: Training, *, world: int = 1, attempt: int = 1) -> None:
        """Trains a stage to its end."""
        self.start(run, world=world, attempt=attempt).finish()

    def run(self, script: str, arguments: Callable[[int], list[str]], folder: Path, *, world: int = 2) -> None:
        """Runs a script with the arguments of each rank, and fails with what the ranks said if one of them does.

        Args:
            folder: where what they say is kept.
        """
        folder.mkdir(exist_ok=True)
        left = [
            self.ask({"script": script, "arguments": arguments(rank), "env": {}, "log": str(folder / f"{rank}.log")})
            for rank in range(world)
        ]
        group, codes = Group(self, left.copy(), folder), list[int]()
        while left:
            codes.append(self.ask({"wait": left.pop(0)}))
            if codes[-1] != 0:
                # The others would wait for it.
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
        assert codes == [0] * world, f"{codes}\n{group.said()}"

    def cpu_seconds(self) -> float:
        """Returns those of all ranks that have ended, and of its own start."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Ends it and, by that, the ranks."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def opened() -> Iterator[Nursery]:
    nursery = Nursery()
    try:
        yield nursery
    finally:
        nursery.close()


def serve(orders: Iterator[str], answer: int) -> None:
    """Forks a rank, or waits for one, by order. Answers go to a file descriptor of their own."""
    for line in orders:
        order = json.loads(line)
        if "wait" in order:
            code = _exit_code(order["wait"])
        else:
            code = os.fork()
            if code == 0:
                _become(order.get("script"), order["arguments"], order["env"], order["log"])
        os.write(answer, f"{code}\n".encode())


def _exit_code(pid: int) -> int:
    """Waits for a rank; kills one that does not end, so that the next test finds this process listening."""
    deadline = time.monotonic() + PATIENCE
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _become(script: str | None, arguments: Sequence[str], environment: dict[str, str], log: str) -> None:
    """Becomes a rank, or what runs a script, and never returns."""
    from slipway_trainer.training.launching import launch, rank

    nothing, said = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for target, source in ((0, nothing), (1, said), (2, said)):
        os.dup2(source, target)
    os.environ.update(environment, **{launch.LAUNCHER_VARIABLE: str(os.getppid())})
    sys.argv = [script or "rank", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if script is None:
            rank.main()
        else:
            launch.die_with_launcher()
            runpy.run_path(script, run_name="__main__")
            sys.stdout.flush()
            os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(70)


if __name__ == "__main__":
    from slipway_trainer.step import startup

    startup.prepare_process()
    # What a rank imports before it computes anything; nothing here starts a thread.
    import slipway_trainer.training.stage  # noqa: F401, I001
    import transformers.models.llama.modeling_llama  # noqa: F401
    import peft  # noqa: F401
    import deepspeed.module_inject, deepspeed.moe.layer  # noqa: E401
    import deepspeed.runtime.bf16_optimizer, deepspeed.runtime.zero.stage_1_and_2, deepspeed.runtime.zero.stage3  # noqa: E401, F401
    import torch._inductor.compile_fx, torch.export, torch.profiler  # noqa: E401, F401

    # A collection would touch, and so copy, every page in each rank.
    gc.collect()
    gc.freeze()
    answers = os.dup(1)
    os.dup2(2, 1)
    serve(sys.stdin, answers)  # type: ignore[arg-type]
