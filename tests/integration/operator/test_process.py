"""The process around the passes, on a real API server: watches, the first list, the Lease, and a clean end.

The passes here only note what they see; those of the operator are tested beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from tests.integration.control_plane import ControlPlane
from tests.integration.operator.test_api_server import a_config_map, a_run
from tests.ports import free_port

from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.kube.connection import connect
from slipway_operator.kube.kinds import CONFIG_MAP, LEASE, TRAINING_RUN
from slipway_operator.process import Process
from slipway_operator.settings import Lease, Settings


@dataclass
class Replica:
    """One process of the operator whose passes note how many ConfigMaps of the run they saw.

    It has a thread with an event loop of its own: at its end Kopf waits 5 s for every task that the loop began
    meanwhile, and then cancels it, whoever began it; those of another replica too.
    """

    name: str
    port: int
    passes: list[tuple[str, str, int]] = field(default_factory=list)
    world: World = field(default_factory=World)
    ended: asyncio.Future[None] | None = None
    _stop: Callable[[], object] = lambda: None

    async def runs(self, plane: ControlPlane, settings: Settings) -> None:
        """Begins to run in its thread."""
        began: asyncio.Event = asyncio.Event()
        outside = asyncio.get_running_loop()

        async def inside() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            self._stop = lambda: loop.call_soon_threadsafe(stop.set)
            outside.call_soon_threadsafe(began.set)
            connection = await connect(plane.kubeconfig, None)
            now = lambda: datetime.now(UTC)  # noqa: E731
            await Process(settings, connection, self.reconcilers, self.name, now, time.monotonic).run(stop)

        self.ended = asyncio.ensure_future(asyncio.to_thread(asyncio.run, inside()))
        await began.wait()

    def reconcilers(self, cluster, world: World, settings, metrics, clock) -> dict[str, Any]:
        self.world = world

        async def reconcile(namespace: str, name: str) -> timedelta | None:
            run = world.get(TRAINING_RUN, namespace, name)
            uid = run["metadata"]["uid"] if run else ""
            self.passes.append((namespace, name, len(world.of_run(CONFIG_MAP, namespace, uid))))
            return None

        return {"TrainingRun": reconcile}

    def saw(self, namespace: str) -> list[int]:
        """How many ConfigMaps of the run `demo` each pass saw."""
        return [count for where, name, count in self.passes if (where, name) == (namespace, "demo")]

    async def asks(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status, await answer.text()

    async def is_ready(self, seconds: float = 20.0) -> None:
        """Waits until it listens and says so: the first pass may come before the last of the watches asks."""
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    if await self.asks("/readyz") == (200, "ok"):
                        return
                await asyncio.sleep(0.02)

    async def ends(self) -> float:
        """Stops it as SIGTERM does. Returns the seconds that took."""
        assert self.ended is not None
        started = time.monotonic()
        self._stop()
        await asyncio.wait_for(asyncio.shield(self.ended), 30)
        return time.monotonic() - started


@contextlib.asynccontextmanager
async def a_replica(plane: ControlPlane, name: str, namespace: str, **settings: Any) -> AsyncIterator[Replica]:
    """A replica whose Lease is in the namespace of the test."""
    replica = Replica(name, free_port())
    lease = Lease(name="operator", namespace=namespace, renew_seconds=0.3)
    own = Settings(port=replica.port, lease=lease, **settings)
    await replica.runs(plane, own)
    try:
        yield replica
    finally:
        assert replica.ended is not None
        if replica.ended.done():
            replica.ended.result()
        else:
            await replica.ends()


async def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0.02)


def a_child(namespace: str, run: dict[str, Any], name: str) -> dict[str, Any]:
    manifest = a_config_map(namespace, name)
    manifest["metadata"]["labels"] = names.run_labels("demo", run["metadata"]["uid"], "plan")
    return manifest


def test_the_first_pass_sees_what_was_there_before_the_operator(control_plane: ControlPlane, namespace: str):
    api = control_plane.api
    run = api.create(a_run(namespace), namespace)
    api.create(a_child(namespace, run, "child"), namespace)
    api.create(a_config_map(namespace, "somebody-elses"), namespace)

    async def scenario() -> None:
        async with a_replica(control_plane, "one", namespace) as replica:
            await eventually(lambda: bool(replica.saw(namespace)))
            assert replica.saw(namespace)[0] == 1
            assert replica.world.get(CONFIG_MAP, namespace, "somebody-elses") is None

    asyncio.run(scenario())
    after = api.get(TRAINING_RUN, namespace, "demo")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == run["metadata"]["resourceVersion"], "watching writes nothing"


def test_what_happens_to_a_child_wakes_its_run(control_plane: ControlPlane, namespace: str):
    api = control_plane.api

    async def scenario() -> None:
        async with a_replica(control_plane, "one", namespace) as replica:
            run = await asyncio.to_thread(api.create, a_run(namespace), namespace)
            await eventually(lambda: replica.saw(namespace) == [0])
            await asyncio.to_thread(api.create, a_child(namespace, run, "child"), namespace)
            await eventually(lambda: replica.saw(namespace)[-1] == 1)
            await asyncio.to_thread(api.create, a_config_map(namespace, "somebody-elses"), namespace)
            await asyncio.to_thread(api.delete, CONFIG_MAP, namespace, "child")
            await eventually(lambda: replica.saw(namespace)[-1] == 0)
            assert len(replica.saw(namespace)) == 3

    asyncio.run(scenario())


def test_it_watches_the_namespaces_that_it_was_given_and_no_other(control_plane: ControlPlane, namespace: str):
    api = control_plane.api
    api.create(a_run("default", "elsewhere"), "default")

    async def scenario() -> None:
        own = {"watch_namespaces": (namespace,)}
        async with a_replica(control_plane, "one", namespace, **own) as replica:
            run = await asyncio.to_thread(api.create, a_run(namespace), namespace)
            await eventually(lambda: replica.saw(namespace) == [0])
            await asyncio.to_thread(api.create, a_child(namespace, run, "child"), namespace)
            await eventually(lambda: replica.saw(namespace)[-1] == 1)
            assert {where for where, _, _ in replica.passes} == {namespace}

    try:
        asyncio.run(scenario())
    finally:
        api.delete(TRAINING_RUN, "default", "elsewhere")


def test_a_replica_stands_by_and_takes_over_from_one_that_ends(control_plane: ControlPlane, namespace: str):
    api = control_plane.api
    api.create(a_run(namespace), namespace)

    async def scenario() -> None:
        async with a_replica(control_plane, "one", namespace) as first:
            await eventually(lambda: bool(first.saw(namespace)))
            async with a_replica(control_plane, "two", namespace) as second:
                await second.is_ready()
                await asyncio.sleep(1)
                assert second.passes == []
                assert "slipway_operator_leader 0.0" in (await second.asks("/metrics"))[1]
                assert await first.ends() < 5
                await eventually(lambda: bool(second.saw(namespace)), 5)
                assert "slipway_operator_leader 1.0" in (await second.asks("/metrics"))[1]

    asyncio.run(scenario())
    lease = api.get(LEASE, namespace, "operator")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "", "a clean exit gives the Lease back"
    assert lease["spec"]["leaseTransitions"] == 1


def test_health_and_metrics_are_answered(control_plane: ControlPlane, namespace: str):
    control_plane.api.create(a_run(namespace), namespace)

    async def scenario() -> None:
        async with a_replica(control_plane, "one", namespace) as replica:
            await eventually(lambda: bool(replica.saw(namespace)))
            assert await replica.asks("/healthz") == (200, "ok")
            await replica.is_ready()
            text = (await replica.asks("/metrics"))[1]
            assert 'slipway_operator_api_requests_total{code="200",kind="TrainingRun",verb="list"}' in text
            ages = [line for line in text.splitlines() if line.startswith("slipway_operator_watch_age_seconds{")]
            assert len(ages) == 8
            assert all(float(line.split()[-1]) < 30 for line in ages)

    asyncio.run(scenario())
