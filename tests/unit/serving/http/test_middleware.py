"""The middleware in front of a small ASGI application, without an engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.control_tokens import ControlTokens
from slipway_serving.http.admission import Admission
from slipway_serving.http.api_keys import ApiKeys
from slipway_serving.http.metrics import ServerMetrics
from slipway_serving.http.middleware import SlipwayMiddleware
from slipway_serving.http.server_parts import Server
from slipway_serving.settings import Limits, Settings

KEY = "sk-unit-0123456789"
BEARER = {"Authorization": f"Bearer {KEY}"}
CHAT = {"message": "hi"}


class Application:
    """What stands behind the middleware: it answers 200, a POST with its own body and when `gate` lets it."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.seen: list[dict[str, Any]] = []
        self.aborted = 0
        self.breaks: Callable[..., None] | None = None
        self.streams = False

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if self.breaks is not None:
            self.breaks()
        body = (await receive()).get("body", b"") if scope["method"] == "POST" else b""
        self.seen.append({"path": scope["path"], "body": body, "headers": dict(scope["headers"])})
        kind = b"text/event-stream" if self.streams else b"application/octet-stream"
        try:
            if self.streams:
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
                await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            if scope["method"] == "POST":
                await self.gate.wait()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        if not self.streams:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body})


def stop_is_a_number(route: str, body: bytes) -> tuple[str, str] | None:
    return ("stop", "it is a number") if route == "/v1/completions" and b'"stop":1' in body else None


class Bench:
    """The middleware with its parts, and a client of it."""

    def __init__(self, settings: Settings, refused_tokens: ControlTokens | None = None) -> None:
        self.registry = CollectorRegistry()
        limits = settings.limits
        self.admission = Admission(limits.max_concurrent or 8, 32 if limits.max_queue is None else limits.max_queue)
        keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file else None
        metrics = ServerMetrics(self.registry)
        metrics.watch(self.admission)
        digest = "sha256:" + "0" * 64
        manifest = Manifest(digest=digest, files={}, run="r", plan_digest=digest, created_at="2026-01-01T00:00:00Z")
        server = Server(
            settings,
            manifest,
            keys,
            self.admission,
            metrics,
            context=2048,
            request_problem=stop_is_a_number,
            refused_tokens=refused_tokens,
        )
        self.application = Application()
        middleware = SlipwayMiddleware(self.application)
        holder = SimpleNamespace(state=SimpleNamespace(args=SimpleNamespace(slipway=server)))

        async def application(scope: Any, receive: Any, send: Any) -> None:
            scope["app"] = holder  # as Starlette does
            await middleware(scope, receive, send)

        self.asgi = application
        transport = httpx.ASGITransport(app=application)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost:8000")

    def metrics(self) -> str:
        return generate_latest(self.registry).decode()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 (what it waits for is the middleware's own state)
                await asyncio.sleep(0.001)


def settings(tmp_path: Path, *, keys: bool = False, host: str = "127.0.0.1", **limits: Any) -> Settings:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEY}\n", encoding="utf-8")
    return Settings(
        model=tmp_path,
        served_name="tiny",
        host=host,
        api_keys_file=file if keys else None,
        limits=Limits(**limits),
    )


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(bench: Bench, requests: int) -> AsyncIterator[list[asyncio.Task[httpx.Response]]]:
    """Requests that are in, running or waiting, until the block ends."""
    bench.application.gate.clear()
    tasks = [asyncio.create_task(bench.client.post("/chat", json=CHAT)) for _ in range(requests)]
    await bench.until(lambda: bench.admission.running + bench.admission.waiting == requests)
    try:
        yield tasks
    finally:
        bench.application.gate.set()
        await asyncio.gather(*tasks)


# --- the open list and access ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/health", "/readyz", "/livez", "/promptz", "/metrics"])
def test_probes_metrics_and_the_page_need_no_key(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, keys=True, host="0.0.0.0"))
        assert (await bench.client.get(path)).status_code == 200

    run(scenario)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/chat"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/messages"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Authorization": "Bearer "},
    ],
)
def test_everything_that_asks_the_model_needs_a_valid_key(
    tmp_path: Path, method: str, path: str, headers: dict[str, str]
) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, keys=True, host="0.0.0.0"))
        refused = await bench.client.request(method, path, headers=headers, json={})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert bench.application.seen == []
        assert (await bench.client.request(method, path, headers=BEARER, json={})).status_code == 200

    run(scenario)


@pytest.mark.parametrize(
    "path",
    [
        "/invocations",
        "/tokenize",
        "/detokenize",
        "/load",
        "/version",
        "/openapi.json",
        "/docs",
        "/ping",
        "/scale_elastic_ep",
        "/v1/load_lora_adapter",
        "/v1/chat/completions/batch",
        "/v1/chat/completions/",
        "/v1//models",
        "//v1/models",
        "/v1/models/../../invocations",
        "/metrics/x",
        "/health/",
        "/chat\n",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_what_is_not_on_the_open_list_does_not_exist_even_with_a_key(tmp_path: Path, path: str, method: str) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, keys=True, host="0.0.0.0"))
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"{}"}

        async def send(message: Any) -> None:
            sent.append(message)

        # Not through httpx, which would tidy the path up.
        headers = [(b"host", b"x"), (b"authorization", f"Bearer {KEY}".encode())]
        await bench.asgi({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
        assert sent[0]["status"] == 404
        assert bench.application.seen == []

    run(scenario)


def test_a_known_path_with_another_method_says_which_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        answer = await Bench(settings(tmp_path)).client.get("/chat")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")

    run(scenario)


def test_a_web_socket_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        bench = Bench(settings(tmp_path))
        await bench.asgi({"type": "websocket", "path": "/v1/realtime", "headers": []}, receive, send)
        assert [message["type"] for message in sent] == ["websocket.close"]

    run(scenario)


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_an_anonymous_local_server_answers_to_names_of_this_machine(tmp_path: Path, host: str) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path))
        assert (await bench.client.post("/chat", json=CHAT, headers={"Host": host})).status_code == 200

    run(scenario)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/chat"), ("GET", "/"), ("GET", "/metrics")])
def test_an_anonymous_local_server_refuses_other_names_because_of_dns_rebinding(
    tmp_path: Path, host: str, method: str, path: str
) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path))
        answer = await bench.client.request(method, path, headers={"Host": host})
        assert answer.status_code == 403
        assert "Host" in answer.json()["error"]["message"]
        assert bench.application.seen == []

    run(scenario)


def test_a_web_page_of_another_site_cannot_ask_an_anonymous_local_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path))
        for origin, status in (("https://evil.example", 403), ("null", 403), ("http://localhost:8000", 200)):
            answer = await bench.client.post("/chat", json=CHAT, headers={"Origin": origin})
            assert answer.status_code == status, origin

    run(scenario)


def test_with_keys_any_host_name_will_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, keys=True))
        headers = {"Host": "chat.example", "Origin": "https://app.example", **BEARER}
        assert (await bench.client.post("/chat", json=CHAT, headers=headers)).status_code == 200

    run(scenario)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_full_queue_is_answered_429_before_the_application_is_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, max_concurrent=2, max_queue=1))
        async with running(bench, 3):
            assert (bench.admission.running, bench.admission.waiting) == (2, 1)
            refused = await bench.client.post("/chat", json=CHAT)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert len(bench.application.seen) == 2
            # What asks no model has no queue.
            assert (await bench.client.get("/v1/models")).status_code == 200
            assert 'slipway_requests_rejected_total{reason="queue_full"} 1.0' in bench.metrics()
            assert "slipway_requests_running 2.0" in bench.metrics()
            assert "slipway_requests_waiting 1.0" in bench.metrics()
        assert (bench.admission.running, bench.admission.waiting) == (0, 0)
        assert (await bench.client.post("/chat", json=CHAT)).status_code == 200

    run(scenario)


def test_who_waits_is_served_in_the_order_of_coming(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, max_concurrent=1, max_queue=3))
        bench.application.gate.clear()
        tasks = []
        for number in range(4):
            tasks.append(asyncio.create_task(bench.client.post("/chat", json={"message": str(number)})))
            await bench.until(lambda wanted=number: bench.admission.running + bench.admission.waiting == wanted + 1)
        bench.application.gate.set()
        await asyncio.gather(*tasks)
        assert [json.loads(seen["body"])["message"] for seen in bench.application.seen] == ["0", "1", "2", "3"]

    run(scenario)


def test_a_client_that_leaves_gives_its_place_free(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, max_concurrent=1, max_queue=1))
        bench.application.gate.clear()
        first = asyncio.create_task(bench.client.post("/chat", json=CHAT))
        await bench.until(lambda: bench.admission.running == 1)
        left = asyncio.Event()
        messages = [{"type": "http.request", "body": b'{"message": "hi"}'}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError("nobody is there to read an answer")

        scope = {"type": "http", "method": "POST", "path": "/chat", "headers": [(b"host", b"localhost")]}
        waiting = asyncio.create_task(bench.asgi(scope, receive, send))
        await bench.until(lambda: bench.admission.waiting == 1)
        left.set()
        await waiting
        assert (bench.admission.running, bench.admission.waiting) == (1, 0)
        assert 'slipway_requests_total{code="499",route="/chat"} 1.0' in bench.metrics()
        bench.application.gate.set()
        assert (await first).status_code == 200
        assert len(bench.application.seen) == 1

    run(scenario)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_above_the_limit_is_refused_whether_it_says_so_or_not(tmp_path: Path, announced: bool) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, max_body_bytes=1000))

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(11):
                yield b"x" * 100

        content: Any = b"x" * 1100 if announced else pieces()
        answer = await bench.client.post("/chat", content=content)
        assert answer.status_code == 413
        assert "1000 bytes" in answer.json()["error"]["message"]
        assert bench.application.seen == []
        assert bench.admission.running == 0
        assert (await bench.client.post("/chat", content=b"x" * 1000)).status_code == 200

    run(scenario)


def test_a_body_that_does_not_arrive_is_not_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, body_timeout=0.05))

        async def pieces() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(30)

        assert (await bench.client.post("/chat", content=pieces())).status_code == 408
        assert bench.application.seen == []

    run(scenario)


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/chat", {"message": "x", "max_length": 65}, 422, "max_length"),
        ("/v1/chat/completions", {"max_tokens": 65}, 400, "max_tokens"),
        ("/v1/chat/completions", {"max_completion_tokens": 10**30}, 400, "max_completion_tokens"),
        ("/v1/completions", {"prompt": "x", "max_tokens": 65.5}, 400, "max_tokens"),
        ("/v1/responses", {"max_output_tokens": 65}, 400, "max_output_tokens"),
        ("/v1/completions", {"prompt": "x", "n": 3}, 400, "n"),
        ("/v1/completions", {"prompt": ["a", "b"], "n": 2}, 400, "n"),
        ("/v1/completions", {"prompt": ["a", "b", "c"]}, 400, "prompt"),
        ("/v1/completions", {"prompt": [[1], [2], [3]]}, 400, "prompt"),
    ],
)
def test_more_than_a_request_may_ask_is_refused_and_the_field_and_limit_named(
    tmp_path: Path, path: str, body: dict[str, Any], status: int, field: str
) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, max_new_tokens=64, max_concurrent=2))
        answer = await bench.client.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (status, field)
        assert error["message"].startswith(f"{field}: ")
        assert ("64" if "max" in field else "2") in error["message"]
        assert bench.application.seen == []

    run(scenario)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat", {"message": "x", "max_length": 64}),
        ("/v1/chat/completions", {"max_tokens": None, "n": 2}),
        ("/v1/completions", {"prompt": [5, 6, 7, 8]}),
        ("/v1/completions", {"prompt": ["a", "b"]}),
    ],
)
def test_what_a_request_may_ask_arrives_unchanged(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, max_new_tokens=64, max_concurrent=2))
        assert (await bench.client.post(path, json=body)).json() == body

    run(scenario)


def test_clients_of_anthropic_send_their_key_in_another_header(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, keys=True))
        key = {"x-api-key": KEY}
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            assert (await bench.client.post(path, json={}, headers=key)).status_code == 200
            assert (await bench.client.post(path, json={}, headers=BEARER)).status_code == 200
            refused = await bench.client.post(path, json={}, headers={"x-api-key": "sk-other"})
            assert refused.status_code == 401
            assert "'x-api-key: KEY'" in refused.json()["error"]["message"]
        assert (await bench.client.post("/chat", json=CHAT, headers=key)).status_code == 401
        assert (await bench.client.get("/v1/models", headers=key)).status_code == 401

    run(scenario)


def test_a_request_on_which_the_application_breaks_is_answered_in_json(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path))

        def breaks(*_: Any) -> None:
            raise AttributeError("'list' object has no attribute 'get'")

        bench.application.breaks = breaks
        told = await bench.client.post("/v1/completions", json={"prompt": "x", "stop": 1})
        assert (told.status_code, told.json()["error"]["param"]) == (400, "stop")
        failed = await bench.client.post("/v1/completions", json={"prompt": "x"}, headers={"X-Request-Id": "mine"})
        assert (failed.status_code, "mine" in failed.json()["error"]["message"]) == (500, True)
        assert 'reason="failed"} 1.0' in bench.metrics()

    run(scenario)


def test_a_request_of_several_answers_takes_as_many_places(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, max_concurrent=4, max_queue=4))
        bench.application.gate.clear()
        two = asyncio.create_task(bench.client.post("/v1/completions", json={"prompt": ["a", "b"], "n": 2}))
        await bench.until(lambda: bench.admission.running == 4)
        one = asyncio.create_task(bench.client.post("/chat", json=CHAT))
        await bench.until(lambda: bench.admission.waiting == 1)
        bench.application.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(two, one)] == [200, 200]
        assert (bench.admission.running, bench.admission.waiting) == (0, 0)

    run(scenario)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff"])
def test_a_body_that_is_no_json_object_is_for_the_application_to_refuse(tmp_path: Path, body: bytes) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path))
        assert (await bench.client.post("/v1/completions", content=body)).content == body

    run(scenario)


def test_a_request_above_its_time_is_aborted(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, request_timeout=0.05))
        bench.application.gate.clear()
        answer = await bench.client.post("/chat", json=CHAT)
        assert answer.status_code == 504
        assert "0.05 s" in answer.json()["error"]["message"]
        bench.application.streams = True
        stream = await bench.client.post("/chat", json=CHAT)
        assert stream.status_code == 200
        assert stream.text.startswith("data: 1\n\n")
        assert json.loads(stream.text.split("data: ")[-1])["error"]["code"] == 504
        assert bench.application.aborted == 2
        assert bench.admission.running == 0

    run(scenario)


# --- drain -----------------------------------------------------------------------------------------------------------


def test_a_drain_serves_who_is_in_and_sends_away_who_comes(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path, max_concurrent=1, max_queue=2))
        async with running(bench, 2) as tasks:
            bench.admission.drain()
            bench.admission.drain()  # a second signal changes nothing
            refused = await bench.client.post("/chat", json=CHAT)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert not await bench.admission.idle(0.01)
            assert "slipway_draining 1.0" in bench.metrics()
            assert (await bench.client.get("/metrics")).status_code == 200
        assert [task.result().status_code for task in tasks] == [200, 200]
        assert await bench.admission.idle(1)

    run(scenario)


def test_a_drain_of_an_idle_server_is_over_at_once() -> None:
    async def scenario() -> None:
        admission = Admission(1, 1)
        admission.drain()
        assert await admission.idle(0.01)

    run(scenario)


# --- request ids and metrics -----------------------------------------------------------------------------------------


def test_every_answer_carries_a_request_id_and_the_engine_gets_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path))
        named = await bench.client.post("/chat", json=CHAT, headers={"X-Request-Id": "abc.1-2_3"})
        assert named.headers["x-request-id"] == "abc.1-2_3"
        for given in ("a b", "x" * 65, "", "日".encode()):
            answer = await bench.client.post("/chat", json=CHAT, headers={"X-Request-Id": given})  # type: ignore[dict-item]
            made = answer.headers["x-request-id"]
            assert len(made) == 32
            assert bench.application.seen[-1]["headers"][b"x-request-id"] == made.encode()
        assert (await bench.client.get("/nothing")).headers["x-request-id"]

    run(scenario)


def test_metrics_count_by_route_and_code_and_never_by_a_client_s_text(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path))
        await bench.client.post("/chat", json=CHAT)
        await bench.client.get("/v1/responses/resp_invented")
        await bench.client.get("/invented")
        text = bench.metrics()
        assert 'slipway_requests_total{code="200",route="/chat"} 1.0' in text
        assert 'slipway_requests_total{code="404",route="other"} 1.0' in text
        assert "invented" not in text

    run(scenario)


def test_time_to_first_token_is_that_of_streams(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path))
        await bench.client.post("/chat", json=CHAT)
        assert 'first_token_seconds_count{route="/chat"}' not in bench.metrics()
        bench.application.streams = True
        await bench.client.post("/chat", json=CHAT)
        assert 'first_token_seconds_count{route="/chat"} 1.0' in bench.metrics()

    run(scenario)


# --- control tokens --------------------------------------------------------------------------------------------------


def test_an_engine_that_cannot_make_text_of_control_tokens_is_asked_for_no_message_that_holds_one(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        bench = Bench(settings(tmp_path), ControlTokens(special=("</s>",), turns=("</s>",)))
        turns = {"messages": [{"role": "user", "content": "a</s>"}]}
        for path, body in (
            ("/chat", {"message": "a</s>"}),
            ("/v1/chat/completions", turns),
            ("/v1/responses", {"input": "a</s>"}),
            ("/v1/messages", turns),
            ("/v1/messages/count_tokens", turns),
        ):
            answer = await bench.client.post(path, json=body)
            assert answer.status_code == 400, path
            assert "'</s>'" in answer.json()["error"]["message"]
        assert bench.application.seen == []
        assert (await bench.client.post("/v1/completions", json={"prompt": "a</s>"})).status_code == 200
        assert (await bench.client.post("/chat", json={"message": "a"})).status_code == 200
        assert 'slipway_requests_rejected_total{reason="control_token"} 5.0' in bench.metrics()

    run(scenario)
