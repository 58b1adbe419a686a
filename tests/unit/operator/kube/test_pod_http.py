"""Questions to pods over real HTTP: a stand-in on 127.0.0.1 answers for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from slipway_operator.kube.pod_http import Pods
from slipway_operator.settings import Settings

Manifest = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def a_pod(uid: str = "u1", **more: Any) -> Manifest:
    return {
        "metadata": {"name": "chat-v1-x", "namespace": "team", "uid": uid},
        "spec": {"containers": [{"name": "server", "ports": [{"name": "http", "containerPort": 8123}]}]},
        "status": {"podIP": "10.1.2.3"},
        **more,
    }


@asynccontextmanager
async def asking(handler: Handler) -> AsyncIterator[tuple[Pods, list[str]]]:
    """Pods whose requests all reach the handler, and the paths that were asked, with pod and port in front."""
    asked: list[str] = []

    async def noted(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return await handler(request)

    server = web.AppRunner(application := web.Application(), shutdown_timeout=0.1)
    application.router.add_route("*", "/{path:.*}", noted)
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    assert server.addresses
    base = f"http://127.0.0.1:{server.addresses[0][1]}"

    async def no_pause(_: float) -> None:
        await asyncio.sleep(0)

    try:
        yield Pods(Settings(pod_url=f"{base}/{{namespace}}/{{pod}}/{{ip}}/{{port}}"), no_pause), asked
    finally:
        await server.cleanup()


def saying(document: Any, status: int = 200) -> Handler:
    async def say(_: web.Request) -> web.StreamResponse:
        return web.json_response(document, status=status)

    return say


async def told(pods: Pods, pod: Manifest) -> tuple[bool | None, str, bool | None]:
    """What passes learn that look again and again."""
    async with asyncio.timeout(10):
        while (answer := await pods.answers(pod))[0] is None:  # noqa: ASYNC110 (a pass does the same)
            await asyncio.sleep(0.01)
    return answer


def test_progress_is_what_rank_0_says_with_what_we_do_not_know_left_out():
    async def scenario() -> None:
        async with asking(saying({"step": 7, "total": 9, "learningRate": 0.1, "later": "field"})) as (pods, asked):
            progress = await pods.progress(a_pod())
            assert progress is not None
            assert (progress.step, progress.total, progress.learning_rate) == (7, 9, 0.1)
            assert asked == ["/team/chat-v1-x/10.1.2.3/9400/progress"]

    asyncio.run(scenario())


def test_garbage_an_error_silence_or_no_address_are_no_progress():
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    async def scenario() -> None:
        for handler in (saying({"step": "many"}), saying([1]), saying({"step": 1}, 500), silent):
            async with asking(handler) as (pods, _), asyncio.timeout(5):
                assert await pods.progress(a_pod()) is None
        async with asking(saying({"step": 1})) as (pods, asked):
            assert await pods.progress(a_pod(status={})) is None
            assert asked == []

    asyncio.run(scenario())


def test_a_prompt_is_asked_beside_the_passes_once_however_many_look():
    async def scenario() -> None:
        goes = asyncio.Event()

        async def late(_: web.Request) -> web.StreamResponse:
            await goes.wait()
            return web.json_response({"ok": True, "reason": None})

        async with asking(late) as (pods, asked):
            for _ in range(5):
                async with asyncio.timeout(1):
                    assert await pods.answers(a_pod()) == (None, "", None)
                await asyncio.sleep(0.02)
            goes.set()
            assert await told(pods, a_pod()) == (True, "", None)
            assert asked == ["/team/chat-v1-x/10.1.2.3/8123/promptz"]

    asyncio.run(scenario())


@pytest.mark.parametrize("said", [True, False, None])
def test_a_server_tells_whether_it_is_the_model_that_was_judged(said: bool | None):
    async def scenario() -> None:
        document = {"ok": True, "reason": None, "parity": {"pass": said, "median": 1e-6}}
        async with asking(saying(document)) as (pods, _):
            assert await told(pods, a_pod()) == (True, "", said)
        async with asking(saying({"ok": True, "parity": "yes"})) as (pods, _):
            assert await told(pods, a_pod()) == (True, "", None)
        for why, heard in (("no record was given", "no record was given"), ("x" * 9000, "x" * 499 + "…"), (["x"], "")):
            unknown = {"pass": None, "median": None, "unknown": why}
            async with asking(saying({"ok": True, "parity": unknown})) as (pods, _):
                assert await told(pods, a_pod()) == (True, heard, None)

    asyncio.run(scenario())


def test_a_prompt_that_fails_is_asked_three_times_and_its_reason_told():
    async def scenario() -> None:
        async with asking(saying({"ok": False, "reason": "the answer has no token"}, 503)) as (pods, asked):
            assert await told(pods, a_pod()) == (False, "it was asked a prompt: the answer has no token", None)
            assert len(asked) == 3
        async with asking(saying("nothing", 404)) as (pods, _):
            assert await told(pods, a_pod()) == (False, "it was asked a prompt: the pod chat-v1-x says HTTP 404", None)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ClientConnectionError("Connection refused"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ConnectionTimeoutError("Connection timeout to host"),
        OSError("no route to host"),
    ],
)
def test_B_a_network_that_is_down_is_no_answer_of_the_model_and_the_pod_is_asked_until_it_says_something(
    error, monkeypatch
):
    async def scenario() -> None:
        async with asking(saying({"ok": True})) as (pods, asked):
            get, down = pods._get, [True]

            async def perhaps(*arguments: Any) -> tuple[int, bytes]:
                if down[0]:
                    raise error
                return await get(*arguments)

            monkeypatch.setattr(pods, "_get", perhaps)
            assert await pods.answers(a_pod()) == (None, "", None)
            for _ in range(20):
                await asyncio.sleep(0)
                answered, why, _ = await pods.answers(a_pod())
                assert answered is None
            assert why.startswith("the operator does not reach the pod chat-v1-x: ")
            down[0] = False
            assert await told(pods, a_pod()) == (True, "", None)
            assert len(asked) == 1

    asyncio.run(scenario())


def test_a_pod_without_an_address_is_asked_once_it_has_one():
    async def scenario() -> None:
        async with asking(saying({"ok": True})) as (pods, _):
            await pods.answers(a_pod(status={}))
            await asyncio.sleep(0.01)
            answered, why, _ = await pods.answers(a_pod(status={}))
            assert answered is None
            assert why == "the operator does not reach the pod chat-v1-x: it has no address yet"
            assert await told(pods, a_pod()) == (True, "", None)

    asyncio.run(scenario())


def test_B_a_server_that_accepts_and_never_answers_did_not_answer(monkeypatch):
    monkeypatch.setattr("slipway_operator.kube.pod_http._PROMPT_SECONDS", 0.05)

    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    async def scenario() -> None:
        async with asking(silent) as (pods, asked):
            answered, why, _ = await told(pods, a_pod())
            assert (answered, len(asked)) == (False, 3)
            assert why == "it was asked a prompt: no answer of the pod chat-v1-x within 0.05 s"

    asyncio.run(scenario())
