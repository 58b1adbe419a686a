"""The passes: a few workers take keys from the queue, and what fails is repeated later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from slipway_operator import log
from slipway_operator.cache.key import Key
from slipway_operator.kube.errors import Busy, ClusterError, Conflict, NotLeading
from slipway_operator.loop.metrics import Metrics
from slipway_operator.loop.work_queue import WorkQueue

Reconcile = Callable[[str, str], Awaitable[timedelta | None]]
"""One pass over an object, by namespace and name. Returns when to look again."""

_LONGEST_PASS = 120.0
"""Seconds after which a pass is given up, so that one that hangs does not keep its key for ever."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workers:
    queue: WorkQueue
    reconcilers: Mapping[str, Reconcile]
    """By the kind of a key."""
    metrics: Metrics
    monotonic: Callable[[], float]
    number: int

    async def run(self) -> None:
        """Works until it is cancelled."""
        with self.queue.served():
            async with asyncio.TaskGroup() as group:
                for _ in range(self.number):
                    group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                with log.about(key):
                    await self.once(key)
            finally:
                self.queue.done(key)

    async def once(self, key: Key) -> None:
        """Makes one pass over a key and says when the next one is due."""
        reconcile = self.reconcilers.get(key.kind)
        if reconcile is None:
            return
        started = self.monotonic()
        try:
            async with asyncio.timeout(_LONGEST_PASS):
                again = await reconcile(key.namespace, key.name)
        except (Conflict, Busy, NotLeading) as error:
            _log.debug("%s %s/%s: %s", key.kind, key.namespace, key.name, error)
            self._failed(key, error)
        except ClusterError as error:
            _log.warning("%s %s/%s: %s", key.kind, key.namespace, key.name, error)
            self._failed(key, error)
        except Exception as error:  # One object that cannot be reconciled must not end the passes over all the others.
            _log.exception("%s %s/%s: the pass failed", key.kind, key.namespace, key.name)
            self._failed(key, error)
        else:
            self.queue.forget(key)
            if again is not None:
                self.queue.add_after(key, again.total_seconds())
        finally:
            self.metrics.reconciled(key.kind, self.monotonic() - started)

    def _failed(self, key: Key, error: Exception) -> None:
        self.metrics.reconcile_failed(key.kind)
        self.queue.retry(key, error)
