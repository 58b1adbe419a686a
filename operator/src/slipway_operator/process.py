"""The operator's process, put together: watches always, passes while it leads, and an end in the right order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import kopf

from slipway_core.resources.api import quantity, seconds
from slipway_operator import health
from slipway_operator.cache.room import Limits
from slipway_operator.cache.world import World
from slipway_operator.health import Health
from slipway_operator.kube import kinds
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.connection import Connection
from slipway_operator.kube.errors import ClusterError, NotFound
from slipway_operator.kube.rate_limit import TokenBucket
from slipway_operator.loop.leader_election import LeaderElection
from slipway_operator.loop.metrics import Gauges, Metrics
from slipway_operator.loop.work_queue import WorkQueue
from slipway_operator.loop.workers import Reconcile, Workers
from slipway_operator.settings import Settings
from slipway_operator.watch import handlers
from slipway_operator.watch.ages import WatchAges
from slipway_operator.watch.kopf_storage import NoMemories
from slipway_operator.watch.resync import Resync

_log = logging.getLogger(__name__)

_LEASE_QPS = 5.0
_WAIT = 5.0
"""Seconds between two tries to find the API server and our kinds."""


class MakeReconcilers(Protocol):
    def __call__(
        self, cluster: Cluster, world: World, settings: Settings, metrics: Metrics, clock: Callable[[], datetime]
    ) -> Mapping[str, Reconcile]:
        """Returns the passes by kind of key. Made anew each time that this replica begins to lead."""
        ...


@dataclass(frozen=True)
class Process:
    settings: Settings
    connection: Connection
    reconcilers: MakeReconcilers
    identity: str
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]

    async def run(self, stop: asyncio.Event, after_start: Callable[[], None] = lambda: None) -> None:
        """Runs until `stop` is set. Raises what ended it otherwise.

        Args:
            stop: ends it: passes first, then the Lease, then the watches.
            after_start: called once Kopf runs, which has by then taken the signals of the process for itself.
        """
        metrics = Metrics()
        world, queue = World(self._limits()), WorkQueue(self.monotonic, standing_by=True)
        watches = WatchAges((*kinds.OWN, *kinds.CHILDREN), self.monotonic)
        api = self.connection.api_client()
        leadership = self._leadership(api, metrics)
        cluster = self._cluster(api, metrics, leadership.leads)
        metrics.include(Gauges(world, queue, watches, leadership.leads))
        server = await health.serve(health.application(Health(queue, watches), metrics), self.settings.port)
        try:
            await _until_set(stop, self._find_kinds(cluster, watches))
            if stop.is_set():
                return

            async def work() -> None:
                with queue.leading():
                    await self._lead(cluster, world, queue, metrics)

            made = handlers.registry(
                handlers.WatchHandlers(world, queue), lambda: self.connection.kopf_session(watches.trace())
            )
            ended = asyncio.Event()
            watching = await self._watch(made, ended)
            after_start()
            leading = asyncio.create_task(leadership.run(work), name="leadership")
            try:
                await _until_set(stop, asyncio.wait([*watching, leading], return_when=asyncio.FIRST_COMPLETED))
            finally:
                await _end(leading)
                await server.cleanup()
                ended.set()
                await kopf.run_tasks(watching, ignored=frozenset(asyncio.all_tasks() - set(watching)))
            if not stop.is_set():
                raise RuntimeError("the watches have ended")
        finally:
            await server.cleanup()
            await api.close()

    async def _lead(self, cluster: Cluster, world: World, queue: WorkQueue, metrics: Metrics) -> None:
        """Reconciles: first everything is listed, so that no pass takes for absent what was not yet told."""
        resync = Resync(cluster, world, queue, self.settings.watch_namespaces)
        await self._resync(resync, first=True)
        reconcilers = self.reconcilers(cluster, world, self.settings, metrics, self.clock)
        workers = Workers(queue, reconcilers, metrics, self.monotonic, self.settings.client.workers)
        async with asyncio.TaskGroup() as group:
            group.create_task(workers.run())
            while True:
                await asyncio.sleep(seconds(self.settings.resync))
                await self._resync(resync, first=False)

    async def _resync(self, resync: Resync, *, first: bool) -> None:
        while True:
            try:
                return await resync.once(first=first)
            except ClusterError as error:
                _log.warning("not everything could be listed, again in %.0f s: %s", _WAIT, error)
                await asyncio.sleep(_WAIT)

    async def _find_kinds(self, cluster: Cluster, watches: WatchAges) -> None:
        """Waits until the API server knows our kinds: Kopf watches what there is when it starts."""
        namespace = self.settings.watch_namespaces[0] if self.settings.watch_namespaces else None
        for kind in kinds.OWN:
            while True:
                watches.begin()
                try:
                    async for _ in cluster.pages(kind, namespace):
                        break
                    break
                except NotFound:
                    _log.error("the kind %s is not defined: install the CRDs of the chart", kind.kind)
                except ClusterError as error:
                    _log.error("%s cannot be listed: %s", kind.plural, error)
                await asyncio.sleep(_WAIT)
        watches.begin()

    async def _watch(self, registry: kopf.OperatorRegistry, ended: asyncio.Event) -> Any:
        namespaces = self.settings.watch_namespaces
        return await kopf.spawn_tasks(
            registry=registry,
            settings=handlers.kopf_settings(),
            memories=NoMemories(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=ended,
        )

    def _limits(self) -> Limits:
        limits = self.settings.limits
        return Limits(limits.runs, limits.endpoints, int(quantity(limits.memory)))

    def _cluster(self, api: Any, metrics: Metrics, may_write: Callable[[], bool]) -> Cluster:
        client = self.settings.client
        limit = TokenBucket(client.qps, client.burst, self.monotonic)
        return Cluster(api, limit, self.clock, metrics.requested, may_write)

    def _leadership(self, api: Any, metrics: Metrics) -> LeaderElection:
        limit = TokenBucket(_LEASE_QPS, 10, self.monotonic)
        cluster = Cluster(api, limit, self.clock, metrics.requested)
        return LeaderElection(cluster, self.settings.lease, self.identity, self.clock, self.monotonic)


async def _until_set(stop: asyncio.Event, other: Any) -> None:
    """Waits for the event or for the other thing, whichever comes first. Raises the other thing's error."""
    stopped, task = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(other)
    try:
        await asyncio.wait({stopped, task}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        await _end(stopped)
        if not task.done():
            await _end(task)


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancels a task and waits for its end. Raises what it failed with."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
