"""Places and the queue for them: by how many answers a request wants, and by who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from slipway_serving.http.admission import Admission
from slipway_serving.http.refusal import Refusal


async def never() -> None:
    await asyncio.Event().wait()


class Requests:
    """Requests that hold their places until they are ended."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.began: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, client: str = "", places: int = 1) -> None:
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name, client, places))
        await settled()

    async def _run(self, name: str, client: str, places: int) -> None:
        async with self.admission.place(never, client, places):
            self.began.append(name)
            await self._ends[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await settled()

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        assert (self.admission.running, self.admission.waiting) == (0, 0), "whoever leaves gives back what he had"
        assert await self.admission.idle(1)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(scenario: Callable[[Requests], Awaitable[None]], places: int = 4, queue: int = 8) -> None:
    async def whole() -> None:
        requests = Requests(Admission(places, queue))
        await scenario(requests)
        await requests.close()

    asyncio.run(whole())


def test_a_request_takes_as_many_places_as_it_wants_answers() -> None:
    async def scenario(requests: Requests) -> None:
        await requests.come("three", places=3)
        await requests.come("one")
        assert requests.admission.running == 4
        await requests.come("two", places=2)
        await requests.end("one")
        assert requests.began == ["three", "one"], "two do not fit into one place"
        await requests.end("three")
        assert requests.began == ["three", "one", "two"]

    run(scenario)


def test_nobody_overtakes_a_request_that_needs_many_places() -> None:
    async def scenario(requests: Requests) -> None:
        await requests.come("one")
        await requests.come("all", places=4)
        await requests.come("small")
        assert requests.began == ["one"]
        await requests.end("one")
        assert requests.began == ["one", "all"]
        await requests.end("all")
        assert requests.began == ["one", "all", "small"]

    run(scenario)


def test_the_next_place_is_for_the_client_who_holds_fewest() -> None:
    async def scenario(requests: Requests) -> None:
        for number in range(6):
            await requests.come(f"much-{number}", client="a", places=4)
        await requests.come("other", client="b")
        await requests.end("much-0")
        assert requests.began == ["much-0", "other"], "the other client waits for one request, not for all of them"
        await requests.end("other")
        assert requests.began[-1] == "much-1"

    run(scenario)


def test_clients_who_hold_as_much_take_turns() -> None:
    async def scenario(requests: Requests) -> None:
        await requests.come("first", client="z")
        for number in range(2):
            for client in "abc":
                await requests.come(f"{client}{number}", client=client)
        for name in ("first", "a0", "b0", "c0", "a1", "b1"):
            await requests.end(name)
        assert requests.began == ["first", "a0", "b0", "c0", "a1", "b1", "c1"]

    run(scenario, places=1)


def test_in_a_full_queue_whoever_has_most_in_it_makes_room() -> None:
    async def scenario(requests: Requests) -> None:
        for number in range(4):
            await requests.come(f"much-{number}", client="a")
        with pytest.raises(Refusal) as raised:
            requests.admission.check("a")
        assert (raised.value.status, "Retry-After" in raised.value.headers) == (429, True)
        requests.admission.check("b")
        await requests.come("other", client="b")
        with pytest.raises(Refusal) as told:
            await requests.tasks["much-3"]
        assert told.value.status == 429, "the newest request of the client who has most there"
        assert requests.admission.waiting == 3
        await requests.end("much-0")
        assert requests.began == ["much-0", "other"]
        for client in ("b", "c"):
            await requests.come(client, client=client)
        with pytest.raises(Refusal):
            requests.admission.check("d")

    run(scenario, places=1, queue=3)


def test_whoever_leaves_the_queue_lets_the_next_one_go_on() -> None:
    async def scenario(requests: Requests) -> None:
        await requests.come("one")
        await requests.come("all", places=4)
        await requests.come("small")
        requests.tasks["all"].cancel()
        await settled()
        assert requests.began == ["one", "small"]

    run(scenario)
