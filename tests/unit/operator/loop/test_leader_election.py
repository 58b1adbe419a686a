import asyncio
import contextlib
import time
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from slipway_operator.kube.errors import AlreadyExists, Conflict, Unreachable
from slipway_operator.kube.manifest import Manifest
from slipway_operator.loop.leader_election import LeaderElection
from slipway_operator.settings import Lease

QUICK = Lease(duration_seconds=0.6, renew_seconds=0.05)
"""Seconds; the API server rounds a duration to whole ones, which is why replicas use their own."""


@dataclass
class OneLease:
    """An API server that keeps a Lease and compares resourceVersions; `down` makes it answer nobody."""

    down: bool = False
    seconds: float = 0.0
    """That an answer takes. What was asked is done, whether or not anybody still waits for the answer."""
    lease: Manifest | None = None
    writes: list[str] = field(default_factory=list)

    async def get(self, kind, namespace, name) -> Manifest | None:
        await self._answer()
        return deepcopy(self.lease)

    async def create(self, manifest: Manifest) -> Manifest:
        if self.lease is not None:
            await self._answer()
            raise AlreadyExists("it exists")
        return await self._store(manifest, 1)

    async def replace(self, manifest: Manifest) -> Manifest:
        held = self.lease
        if held is None or manifest["metadata"]["resourceVersion"] != held["metadata"]["resourceVersion"]:
            await self._answer()
            raise Conflict("it has changed")
        return await self._store(manifest, int(held["metadata"]["resourceVersion"]) + 1)

    @property
    def holder(self) -> str:
        return self.lease["spec"]["holderIdentity"] if self.lease else ""

    async def _answer(self) -> None:
        if self.down:
            raise Unreachable("no answer")
        await asyncio.sleep(self.seconds)

    async def _store(self, manifest: Manifest, version: int) -> Manifest:
        if self.down:
            raise Unreachable("no answer")
        # As the API server: whole seconds. A quick Lease is one of a second there.
        stored = deepcopy(manifest)
        stored["metadata"]["resourceVersion"] = str(version)
        stored["spec"]["leaseDurationSeconds"] = 0
        self.lease = stored
        self.writes.append(stored["spec"]["holderIdentity"])
        await self._answer()
        return deepcopy(stored)


@dataclass
class Replica:
    leadership: LeaderElection
    task: asyncio.Task | None = None
    working: bool = False

    async def work(self) -> None:
        self.working = True
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False

    def start(self) -> "Replica":
        self.task = asyncio.create_task(self.leadership.run(self.work))
        return self

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


def a_replica(server, name: str, settings: Lease = QUICK) -> Replica:
    return Replica(LeaderElection(server, settings, name, lambda: datetime.now(UTC), time.monotonic))


async def eventually(holds, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0.01)


def test_one_of_two_replicas_works():
    async def scenario():
        server = OneLease()
        first, second = a_replica(server, "first").start(), a_replica(server, "second").start()
        await eventually(lambda: first.working)
        await asyncio.sleep(1.0)
        assert (first.working, second.working) == (True, False)
        await second.stop()
        await first.stop()

    asyncio.run(scenario())


def test_a_replica_that_waits_says_once_for_whom(caplog: pytest.LogCaptureFixture):
    """People ask for the log of one of the pods, and an empty one says neither that it works nor where to look."""

    async def scenario():
        server = OneLease()
        first = a_replica(server, "first").start()
        await eventually(lambda: first.working)
        second = a_replica(server, "second").start()
        await asyncio.sleep(0.3)
        await first.stop()
        await eventually(lambda: second.working)
        third = a_replica(server, "third").start()
        await asyncio.sleep(0.3)
        await third.stop()
        await second.stop()

    with caplog.at_level("INFO"):
        asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "this replica (first) leads",
        "this replica (second) waits and watches: first leads, and its log has the work",
        "this replica (second) leads",
        "this replica (third) waits and watches: second leads, and its log has the work",
    ]


def test_a_clean_exit_gives_the_lease_to_the_other_at_once():
    async def scenario():
        server = OneLease()
        settings = Lease(duration_seconds=60, renew_seconds=0.05)
        first = a_replica(server, "first", settings).start()
        await eventually(lambda: first.working)
        second = a_replica(server, "second", settings).start()
        await asyncio.sleep(0.1)
        await first.stop()
        assert not first.working
        assert server.holder in ("", "second")
        await eventually(lambda: second.working, 1.0)
        await second.stop()

    asyncio.run(scenario())


def test_a_clean_exit_gives_the_lease_back_although_a_renewal_is_not_answered_yet():
    async def scenario():
        server = OneLease()
        replica = a_replica(server, "one", Lease(duration_seconds=60, renew_seconds=0.05)).start()
        await eventually(lambda: replica.working)
        server.seconds, renewed = 0.3, len(server.writes)
        await eventually(lambda: len(server.writes) > renewed)
        await replica.stop()
        assert server.holder == ""

    asyncio.run(scenario())


def test_a_lease_that_another_replica_has_by_now_is_left_to_it():
    async def scenario():
        server = OneLease()
        replica = a_replica(server, "one", Lease(duration_seconds=60, renew_seconds=30)).start()
        await eventually(lambda: replica.working)
        lease = {**server.lease, "metadata": {**server.lease["metadata"], "resourceVersion": "99"}}
        server.lease = {**lease, "spec": {**lease["spec"], "holderIdentity": "other"}}
        await replica.stop()
        assert server.holder == "other"

    asyncio.run(scenario())


def test_the_lease_of_a_replica_that_died_runs_out():
    async def scenario():
        server = OneLease()
        dead = a_replica(server, "dead").leadership
        assert await dead._try()
        second = a_replica(server, "second").start()
        started = time.monotonic()
        await eventually(lambda: second.working)
        assert time.monotonic() - started >= QUICK.duration_seconds
        await second.stop()

    asyncio.run(scenario())


def test_a_replica_that_cannot_renew_stops_before_its_lease_is_over():
    async def scenario():
        server = OneLease()
        # A busy machine may hold the loop up for longer than a QUICK lease has left then.
        settings = Lease(duration_seconds=3, renew_seconds=0.05)
        first = a_replica(server, "first", settings).start()
        await eventually(lambda: first.working)
        server.down = True
        lost = time.monotonic()
        await eventually(lambda: not first.working)
        assert time.monotonic() - lost < settings.duration_seconds
        assert not first.leadership.leads()
        server.down = False
        await eventually(lambda: first.working)
        await first.stop()

    asyncio.run(scenario())


def test_a_replica_leads_although_each_answer_takes_longer_than_the_time_between_two_renewals():
    async def scenario():
        server = OneLease(seconds=0.2)
        slow = a_replica(server, "slow", Lease(duration_seconds=3, renew_seconds=0.05)).start()
        await eventually(lambda: slow.working)
        for _ in range(10):
            await asyncio.sleep(0.1)
            assert slow.working
        await slow.stop()

    asyncio.run(scenario())


def test_an_answer_that_never_came_is_told_as_that(caplog: pytest.LogCaptureFixture):
    async def scenario():
        server = OneLease(seconds=60)
        assert not await a_replica(server, "one").leadership._try()

    asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "the Lease slipway-system/slipway-operator was not reached: no answer within 0.4 s"
    ]


def test_a_replica_whose_lease_was_taken_stops():
    async def scenario():
        server = OneLease()
        first = a_replica(server, "first").start()
        await eventually(lambda: first.working)
        assert server.lease is not None
        server.lease["spec"]["holderIdentity"] = "usurper"
        server.lease["metadata"]["resourceVersion"] = "99"
        await eventually(lambda: not first.working)
        assert server.holder == "usurper"
        await first.stop()
        assert server.holder == "usurper", "what is not ours is not given back"

    asyncio.run(scenario())


def test_the_error_of_the_work_ends_it():
    async def scenario():
        async def fails() -> None:
            raise ValueError("a bug")

        server = OneLease()
        leadership = a_replica(server, "first").leadership
        with pytest.raises(ValueError, match="a bug"):
            await leadership.run(fails)
        assert server.holder == ""

    asyncio.run(scenario())
