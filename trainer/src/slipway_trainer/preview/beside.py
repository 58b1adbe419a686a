"""A process beside this one for what needs torch, whose import takes as long as looking at the rows."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import ParamSpec, TypeVar

from slipway_host import imports
from slipway_trainer.step import parent_death, startup

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Beside:
    """Runs one call after the other, of functions that can be sent to a process; in this one, until it is known that
    torch is needed."""

    def __init__(self, *, apart: bool = True) -> None:
        """`apart`: False keeps to this process, where torch is imported already."""
        self._keeps = not apart
        self._pool: Executor = ThreadPoolExecutor(1)

    def __enter__(self) -> Beside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def import_torch(self) -> None:
        """Starts the process, if there is none yet, and has it import what estimates of the cost need."""
        if self._keeps:
            return
        self._pool.shutdown(wait=True)
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_start)
        self._keeps = True
        self.start(_import)

    def start(self, function: Callable[Given, Result], *args: Given.args, **named: Given.kwargs) -> Future[Result]:
        """Returns what the call will return or raise."""
        return self._pool.submit(function, *args, **named)

    @staticmethod
    def result(call: Future[Result]) -> Result:
        """Raises what the call raises, and OutOfMemory when its process was killed."""
        try:
            return call.result()
        except BrokenProcessPool:
            from slipway_trainer.step.errors import OutOfMemory

            raise OutOfMemory(
                "a process that estimates what the run costs was killed, most likely because memory ran out"
            ) from None


def _start() -> None:
    parent_death.die_with_main_process()
    startup.prepare_process()


def _import() -> None:
    with imports.of_libraries():
        from slipway_trainer.model import adapter_targets, adapters, blueprint  # noqa: F401  # pyright: ignore
        from slipway_trainer.preview import cost  # noqa: F401  # pyright: ignore
