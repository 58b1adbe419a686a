"""A function over many items in several processes, with the results in the order of the items."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from slipway_trainer.step import parent_death
from slipway_trainer.step.errors import OutOfMemory

Item = TypeVar("Item")
Result = TypeVar("Result")
Tag = TypeVar("Tag")

_AHEAD = 3
"""Items that wait for each process: enough to keep it busy, few enough to keep memory small."""


def ordered(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """Yields function(item) for every item, in order; what one of them raises is raised in its place.

    The function is sent to each process once, so it may hold much. With one worker everything runs in this process.
    Processes come from a fork server, never from a fork of this one: threads of a tokenizer or of the progress
    endpoint may hold locks here. They end when this process does, by whatever death.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["slipway_trainer.data.parallel", "slipway_trainer.data.encode", "slipway_trainer.data.scan"]
    )
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(function,))
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_call, item))
            if len(waiting) >= workers * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise OutOfMemory(
            "a process that reads data was killed, most likely because memory ran out; give the step more memory"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def tagged(
    function: Callable[[Item], Result], items: Iterable[tuple[Tag, Item]], *, workers: int
) -> Iterator[tuple[Tag, Result]]:
    """Yields each item's tag, which stays in this process, with function(item), in order."""
    tags: deque[Tag] = deque()

    def untagged() -> Iterator[Item]:
        for tag, item in items:
            tags.append(tag)
            yield item

    for result in ordered(function, untagged(), workers=workers):
        yield tags.popleft(), result


class _Worker:
    """What a worker process holds; the one place where a process pool leaves room for it is a module's global."""

    function: Callable[[Any], Any]


def _start(function: Callable[[Any], Any]) -> None:
    # Ctrl-C reaches the whole group; the parent alone answers it, and then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent_death.die_with_main_process()
    _Worker.function = staticmethod(function)  # type: ignore[assignment]


def _call(item: Any) -> Any:
    return _Worker.function(item)
