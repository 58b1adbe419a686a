"""Calls that wait for a network, made beside this thread, so that a signal is answered meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 2.0
"""Seconds that a stop gives calls under way. One that comes back while the interpreter goes down aborts it, and the
exit code is lost; a store that is silent comes back later."""


def together(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Returns what calls return that are made at the same time. Raises the error of the first one that has one, when
    all have ended, and at once what a signal raises."""
    made = [(call, Future[T]()) for call in calls]
    futures = [future for _, future in made]
    # Daemons, since nobody waits for them at the end.
    threads = [Thread(target=_make, args=pair, daemon=True) for pair in made]
    for thread in threads:
        thread.start()
    try:
        # Not by Thread.join, which takes a thread for ended when a signal interrupts it.
        wait(futures)
    except BaseException:
        wait(futures, PATIENCE)
        raise
    for thread in threads:
        thread.join()
    return [future.result() for future in futures]


def _make(call: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)
