import asyncio
import json
import logging
import time
from datetime import timedelta

from slipway_operator import log
from slipway_operator.cache.key import Key
from slipway_operator.kube.errors import Conflict
from slipway_operator.loop.metrics import Metrics
from slipway_operator.loop.work_queue import WorkQueue
from slipway_operator.loop.workers import Workers

A, B = Key("TrainingRun", "team", "a"), Key("TrainingRun", "team", "b")


def run_for(seconds: float, reconcile, *keys: Key, number: int = 4) -> WorkQueue:
    """Lets the workers work on these keys for a while."""

    async def scenario() -> WorkQueue:
        queue = WorkQueue(time.monotonic, jitter=lambda: 0.0)
        for key in keys:
            queue.add(key)
        task = asyncio.create_task(Workers(queue, {"TrainingRun": reconcile}, Metrics(), time.monotonic, number).run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait({task})
        return queue

    return asyncio.run(scenario())


def test_a_pass_says_when_the_next_one_is_due():
    passes: list[str] = []

    async def reconcile(namespace: str, name: str) -> timedelta | None:
        passes.append(name)
        return timedelta(seconds=0.02) if len(passes) < 3 else None

    queue = run_for(0.3, reconcile, A)
    assert passes == ["a", "a", "a"]
    assert queue.delayed == 0


def test_a_pass_that_fails_is_repeated_and_holds_up_no_other():
    passes: list[str] = []

    async def reconcile(namespace: str, name: str) -> timedelta | None:
        passes.append(name)
        if name == "a" and passes.count("a") == 1:
            raise Conflict("read it again")
        if name == "b" and passes.count("b") == 1:
            raise ValueError("a bug")
        return None

    run_for(0.5, reconcile, A, B, number=1)
    assert (passes.count("a"), passes.count("b")) == (2, 2)


def test_no_two_passes_over_one_object_at_once():
    now: set[str] = set()
    overlapped: list[str] = []

    async def reconcile(namespace: str, name: str) -> timedelta | None:
        if name in now:
            overlapped.append(name)
        now.add(name)
        await asyncio.sleep(0.01)
        now.discard(name)
        return timedelta(seconds=0.001)

    run_for(0.3, reconcile, A, B, number=8)
    assert overlapped == []


def test_the_lines_of_a_pass_name_its_object():
    line = logging.makeLogRecord({"msg": "hello %s", "args": ("you",), "levelname": "INFO", "name": "x"})
    with log.about(A):
        told = json.loads(log.JsonLines().format(line))
    assert (told["namespace"], told["run"], told["message"]) == ("team", "a", "hello you")
    assert "run" not in json.loads(log.JsonLines().format(line))
