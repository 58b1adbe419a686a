import asyncio
import time

import pytest

from slipway_operator.cache.key import Key
from slipway_operator.kube.errors import Busy, Conflict, Unreachable
from slipway_operator.loop.work_queue import WorkQueue


def key(name: str) -> Key:
    return Key("TrainingRun", "team", name)


A, B, C = key("a"), key("b"), key("c")


def a_queue(monotonic=time.monotonic) -> WorkQueue:
    return WorkQueue(monotonic, jitter=lambda: 0.0)


async def taken(queue: WorkQueue, number: int, *, seconds: float = 2.0) -> list[Key]:
    """The next keys, each done at once."""
    found: list[Key] = []
    async with asyncio.timeout(seconds):
        while len(found) < number:
            found.append(await queue.get())
            queue.done(found[-1])
    return found


def test_a_key_stands_in_the_line_once():
    async def scenario():
        queue = a_queue()
        for one in (A, B, A, A):
            queue.add(one)
        assert len(queue) == 2
        assert await taken(queue, 2) == [A, B]
        assert len(queue) == 0

    asyncio.run(scenario())


def test_a_key_in_work_is_not_given_to_another_worker_and_is_looked_at_again():
    async def scenario():
        queue = a_queue()
        queue.add(A)
        assert await queue.get() == A
        queue.add(A)
        assert len(queue) == 0
        queue.done(A)
        assert await taken(queue, 1) == [A]
        assert len(queue) == 0, "told twice while in work is once more, not twice"

    asyncio.run(scenario())


def test_one_that_something_happened_to_goes_before_new_ones():
    async def scenario():
        queue = a_queue()
        queue.add(A, new=True)
        queue.add(B, new=True)
        queue.add(C)
        assert await taken(queue, 3) == [C, A, B]

    asyncio.run(scenario())


def test_a_new_key_that_something_happens_to_is_not_new_any_more():
    async def scenario():
        queue = a_queue()
        queue.add(A, new=True)
        queue.add(B, new=True)
        queue.add(B)
        assert len(queue) == 2
        assert await taken(queue, 2) == [B, A]

    asyncio.run(scenario())


def test_new_keys_get_their_turn_under_a_steady_stream_of_events():
    async def scenario():
        queue = a_queue()
        queue.add(A, new=True)
        for number in range(20):
            queue.add(key(str(number)))
        assert A in await taken(queue, 5)

    asyncio.run(scenario())


def test_of_several_delays_the_earliest_counts():
    async def scenario():
        queue = a_queue()
        queue.add_after(A, 30)
        queue.add_after(A, 0.02)
        queue.add_after(A, 60)
        assert len(queue) == 0
        assert await taken(queue, 1) == [A]
        assert queue.delayed == 0, "a pass says anew when the next one is due"

    asyncio.run(scenario())


def test_delayed_keys_come_in_the_order_of_their_time():
    async def scenario():
        queue = a_queue()
        queue.add_after(A, 0.06)
        queue.add_after(B, 0.02)
        assert await taken(queue, 2) == [B, A]

    asyncio.run(scenario())


def test_delays_that_are_out_of_date_are_not_kept_until_their_time():
    async def scenario():
        queue = a_queue()
        for _ in range(5000):
            queue.add_after(A, 7 * 86400)
            queue.add(A)
            await taken(queue, 1)
        assert len(queue._heap) < 1100
        queue.add_after(A, 7 * 86400)
        queue.add_after(B, 0.01)
        assert await taken(queue, 1) == [B]

    asyncio.run(scenario())


def test_a_pass_that_an_event_asked_for_takes_the_place_of_a_delayed_one():
    async def scenario():
        queue = a_queue()
        queue.add_after(A, 0.03)
        queue.add(A)
        assert await taken(queue, 1) == [A]
        await asyncio.sleep(0.06)
        assert len(queue) == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("errors", "delay"),
    [
        ([Unreachable("no answer")], 0.25),
        ([Unreachable("no answer")] * 4, 2.0),
        ([Unreachable("no answer")] * 100, 60.0),
        ([ValueError("a bug")], 0.25),
        ([Conflict("read it again")], 0.05),
        ([Conflict("read it again")] * 5, 4.0),
        ([Busy("come back", 7.0)], 7.0),
    ],
)
def test_what_fails_is_tried_later_and_later(errors, delay):
    async def scenario():
        queue = a_queue(lambda: 100.0)
        for error in errors[:-1]:
            queue.retry(A, error)
            queue._due.clear()
        queue.retry(A, errors[-1])
        assert queue._due[A] - 100.0 == pytest.approx(delay)

    asyncio.run(scenario())


def test_the_backoff_begins_anew_after_a_success():
    async def scenario():
        queue = a_queue(lambda: 100.0)
        for _ in range(8):
            queue.retry(A, ValueError("a bug"))
        queue.forget(A)
        queue._due.clear()
        queue.retry(A, ValueError("a bug"))
        assert queue._due[A] - 100.0 == pytest.approx(0.25)

    asyncio.run(scenario())


def test_every_waiting_worker_gets_a_key_and_a_cancelled_one_loses_none():
    async def scenario():
        queue = a_queue()
        waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.add(A)
        waiting[0].cancel()
        queue.add(B)
        async with asyncio.timeout(2):
            found = {await waiting[1], await waiting[2]}
        assert found == {A, B}

    asyncio.run(scenario())


def test_a_long_line_that_moves_has_not_stalled():
    async def scenario():
        now = [0.0]
        queue = a_queue(lambda: now[0])
        for one in (A, B, C):
            queue.add(one)
        now[0] = 500.0
        assert queue.stalled() == 0, "nobody takes any: this replica does not lead"
        with queue.served():
            now[0] = 590.0
            await taken(queue, 1)
            now[0] = 600.0
            assert queue.oldest() == 600.0
            assert queue.stalled() == 10.0
            await taken(queue, 2)
            now[0] = 900.0
            assert queue.stalled() == 0, "nothing waits"

    asyncio.run(scenario())


def test_a_replica_that_stands_by_keeps_no_keys():
    """The one that begins to lead lists everything first, and its passes begin with that."""

    async def stand_by() -> None:
        queue = WorkQueue(time.monotonic, standing_by=True)
        for number in range(100):
            queue.add(key(f"deleted-{number}"), new=number % 2 == 0)
            queue.add_after(key(f"later-{number}"), 60)
        assert (len(queue), queue.delayed) == (0, 0)
        with queue.leading():
            queue.add(key("listed"))
            queue.add_after(key("later"), 60)
            assert await queue.get() == key("listed")
            queue.add(key("listed"))
            queue.add(key("other"))
        queue.done(key("listed"))
        assert (len(queue), queue.delayed, queue.oldest()) == (0, 0, 0.0)
        with queue.leading():
            queue.add(key("listed"))
            assert await queue.get() == key("listed")

    asyncio.run(stand_by())
