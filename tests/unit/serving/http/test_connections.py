"""Connections of clients that want no answer: whatever they do, another client is answered at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.serving.http.running import CHAT, PROBE, Serving, run, serving

from slipway_serving.http.connections import HEAD_BYTES, Patience, most_connections

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
SHORT = Patience(look=0.1, head=0.3, rest=0.3, unread=0.3, closing=0.3)
SOON = 4.0
"""Seconds within which what is bounded by SHORT must be over, on a busy machine too."""


def ended(serving: Serving, reason: str) -> int:
    name = f'slipway_connections_ended_total{{reason="{reason}"}} '
    return sum(int(float(line.removeprefix(name))) for line in serving.metrics().splitlines() if line.startswith(name))


async def until(holds: Callable[[], bool], seconds: float = SOON) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 (what it waits for is the server's own state)
            await asyncio.sleep(0.01)


async def refusal(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Returns the status and the message of a refusal after which the server closes."""
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["error"]["message"]


async def closed(reader: asyncio.StreamReader) -> None:
    """Waits until the server closed without an answer."""
    with contextlib.suppress(ConnectionError):
        assert not await reader.read()


LONG = b"a" * HEAD_BYTES


@pytest.mark.parametrize(
    "head",
    [
        pytest.param([GET + b"X: " + LONG + b"\r\n\r\n"], id="one long header"),
        pytest.param([GET + b"X: ", *[LONG] * 16], id="a header without an end"),
        pytest.param([GET, *[b"a: b\r\n" * 4096] * 16], id="many short ones"),
        pytest.param([b"GET /", *[LONG] * 16], id="a path without an end"),
        pytest.param([GET + b"\r\n" + GET, *[LONG] * 4], id="in a later request"),
    ],
)
def test_a_head_above_the_limit_is_answered_431_and_not_kept(tmp_path: Path, head: list[bytes]) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as made:
            reader, writer = await made.connect()
            if head[0].endswith(GET):
                writer.write(PROBE)
                await reader.readuntil(b"ok")
            writer.write(head[0])
            if head[0].startswith(GET + b"\r\n"):
                # One that is still being answered would be cut.
                await reader.readuntil(b"ok")
            for piece in head[1:]:
                writer.write(piece)
            status, message = await refusal(reader)
            assert status == 431
            assert f"{HEAD_BYTES} bytes" in message
            assert ended(made, "head_too_large") == 1

    run(scenario)


def test_a_head_within_the_limit_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as made:
            reader, writer = await made.connect()
            for _ in range(3):
                writer.write(GET + b"X: " + LONG[:-200] + b"\r\n\r\n")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                await reader.readexactly(2)

    run(scenario)


def test_trailers_and_chunk_extensions_are_bounded_as_heads_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        chunked = CHAT.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
        async with serving(tmp_path) as made:
            for start in (b"0\r\nX: ", b"1;x="):
                reader, writer = await made.connect()
                writer.write(chunked + start)
                for _ in range(16):
                    writer.write(LONG)
                await closed(reader)
            assert ended(made, "head_too_large") == 2

    run(scenario)


def test_what_is_no_http_is_answered_as_everything_else_that_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as made:
            reader, writer = await made.connect()
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert await refusal(reader) == (400, "this is no HTTP/1.1 request")

    run(scenario)


def test_an_upgrade_is_not_made(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, patience=SHORT) as made:
            reader, writer = await made.connect()
            writer.write(
                GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.write(LONG)
            async with asyncio.timeout(SOON + 5):
                await reader.read()

    run(scenario)


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        pytest.param(b"", b"", "head", id="nothing at all"),
        pytest.param(GET, b"a", "head", id="a head that trickles"),
        pytest.param(GET + b"\r\n" + GET, b"a", "head", id="a later head that trickles"),
        pytest.param(GET + b"Content-Length: 100000\r\n\r\n", b"a", "rest", id="a body that nobody asked for"),
        pytest.param(GET + b"\r\n", b"\r\n", "idle", id="empty lines between two requests"),
        pytest.param(GET + b"Connection: close\r\nContent-Length: 9\r\n\r\n", b"", None, id="a close"),
    ],
)
def test_a_client_that_lets_the_server_wait_is_left(
    tmp_path: Path, first: bytes, then: bytes, reason: str | None
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, patience=SHORT, keep_alive=1) as made:
            reader, writer = await made.connect()
            writer.write(first)
            begun = time.monotonic()
            while not (reader.at_eof() or reader.exception()):
                assert time.monotonic() - begun < SOON
                writer.write(then)
                reader._buffer.clear()  # type: ignore[attr-defined]
                await asyncio.sleep(0.1)
            assert reason is None or ended(made, reason) == 1

    run(scenario)


def test_a_head_that_is_late_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, patience=SHORT) as made:
            reader, writer = await made.connect()
            writer.write(GET)
            assert await refusal(reader) == (408, "The head of this request did not arrive within 0.3 s.")

    run(scenario)


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
def test_a_client_that_does_not_read_its_answer_is_left(tmp_path: Path, close: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, patience=SHORT) as made:
            _, writer = await made.connect()
            writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + close + b"\r\n")
            await until(lambda: ended(made, "unread") + ended(made, "closing") == 1)
            await until(lambda: "slipway_connections 0.0" in made.metrics())

    run(scenario)


def test_a_stream_may_be_silent_for_longer_than_a_head_may_take(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, patience=SHORT, keep_alive=1) as made:
            reader, writer = await made.connect()
            writer.write(CHAT.replace(b"/chat", b"/v1/completions"))
            await reader.readuntil(b"first")
            await asyncio.sleep(1.5)
            made.application.end.set()
            await reader.readuntil(b"ok")

    run(scenario)


@pytest.mark.parametrize("start", [b"", GET, GET + b"Content-Length: 9\r\n\r\n"], ids=["silent", "trickling", "unread"])
def test_above_the_cap_those_who_wait_longest_give_way_and_a_new_client_is_answered(
    tmp_path: Path, start: bytes
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, connections=8) as made:
            stream = await made.connect()
            stream[1].write(CHAT.replace(b"/chat", b"/v1/completions"))
            await stream[0].readuntil(b"first")
            others = []
            for _ in range(30):
                others.append(await made.connect())
                others[-1][1].write(start)
                if start.endswith(b"\r\n\r\n"):
                    # It gives way once it is answered.
                    await others[-1][0].readuntil(b"ok")
            await until(lambda: ended(made, "gave_way") >= 23)
            begun = time.monotonic()
            await made.is_up()
            assert time.monotonic() - begun < SOON
            made.application.end.set()
            await stream[0].readuntil(b"ok")
            assert "slipway_connections 9.0" not in made.metrics()

    run(scenario)


def test_when_all_connections_are_answered_a_further_one_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, connections=2) as made:
            streams = [await made.connect() for _ in range(2)]
            for stream in streams:
                stream[1].write(CHAT.replace(b"/chat", b"/v1/completions"))
                await stream[0].readuntil(b"first")
            reader, writer = await made.connect()
            writer.write(PROBE)
            await closed(reader)
            assert ended(made, "too_many") == 1
            made.application.end.set()
            for stream in streams:
                await stream[0].readuntil(b"ok")

    run(scenario)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[tuple[int, int]]]:
    """Puts limits of open files (soft, hard) in place of this process's, and returns those that are set."""
    made: list[tuple[int, int]] = []

    def limits(soft: int, hard: int) -> list[tuple[int, int]]:
        monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda which, value: made.append(value))
        return made

    return limits


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "most"),
    [
        (1024, 1 << 20, [(4352, 1 << 20)], 4096),
        (1024, 1024, [(1024, 1024)], 768),
        (1024, resource.RLIM_INFINITY, [(4352, resource.RLIM_INFINITY)], 4096),
        (1 << 20, 1 << 20, [], 4096),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, [], 4096),
        (64, 64, [(64, 64)], 1),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_is_useful(
    files: Callable[[int, int], list[tuple[int, int]]], soft: int, hard: int, raised: list[tuple[int, int]], most: int
) -> None:
    made = files(soft, hard)
    assert most_connections(40) == most
    assert made == raised


def test_there_are_connections_for_all_who_may_run_and_wait() -> None:
    assert most_connections(10_000) == 11_024 or resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 11_280
