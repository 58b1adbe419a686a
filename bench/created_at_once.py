"""Objects that are created as fast as a limit allows, and how long each of them took until it had ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from tests.integration.api_client import ApiClient, Manifest

from slipway_operator.kube.kinds import Kind

CREATORS = 16
"""Threads of the client that creates: they wait for answers, not for the processor."""

Ended = Callable[[Manifest], bool]


@dataclass(frozen=True)
class Timed:
    wall: float
    """Seconds from the first creation to the last end."""
    lives: list[float]
    """Seconds from the creation of each to its end, in the order of creation."""


def create_and_wait(
    api: ApiClient, kind: Kind, namespace: str, manifests: list[Manifest], qps: float, ended: Ended
) -> Timed:
    """Creates objects of one kind at once and waits until all of them have ended. Raises Refused."""
    created: dict[str, float] = {}
    done: dict[str, float] = {}
    pace = Pace(qps)
    start = time.monotonic()

    def create(manifest: Manifest) -> None:
        pace.wait()
        created[manifest["metadata"]["name"]] = time.monotonic()
        api.create(manifest, namespace)

    with ThreadPoolExecutor(CREATORS + 1) as threads:
        following = threads.submit(_follow, api, kind, namespace, ended, done, len(manifests))
        list(threads.map(create, manifests))
        following.result()
    return Timed(max(done.values()) - start, [done[name] - at for name, at in sorted(created.items(), key=_moment)])


def _moment(item: tuple[str, float]) -> float:
    return item[1]


def _follow(api: ApiClient, kind: Kind, namespace: str, ended: Ended, done: dict[str, float], number: int) -> None:
    """Notes when each object is first seen to have ended."""
    for manifest in api.watch(kind, namespace):
        name = manifest["metadata"]["name"]
        if name not in done and ended(manifest):
            done[name] = time.monotonic()
            if len(done) == number:
                return


class Pace:
    """A token bucket for threads: `qps` a second, and a burst of twice that."""

    def __init__(self, qps: float) -> None:
        self._qps = qps
        self._lock = Lock()
        # The moment at which the bucket would be full again; a burst fits before it.
        self._full_at = time.monotonic() - 2.0

    def wait(self) -> None:
        """Returns once the next request may go out."""
        with self._lock:
            now = time.monotonic()
            self._full_at = max(self._full_at, now - 2.0) + 1 / self._qps
            pause = self._full_at - now
        if pause > 0:
            time.sleep(pause)
