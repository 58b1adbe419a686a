"""The relay over real sockets, with backends that say exactly what the test wants them to."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from slipway.local import ports
from slipway.local.endpoints import relay
from slipway.local.endpoints.relay import Backend, Relay, Unavailable

Script = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes = b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def body(self) -> bytes:
        length = next(line for line in self.head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        return await self.reader.readexactly(int(length.split(b":")[1]))


async def says(exchange: Exchange, text: bytes) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))


def always(text: bytes) -> Script:
    return lambda exchange: says(exchange, text)


@dataclass
class Stage:
    """A relay, the backends behind it, and connections to it."""

    relay: Relay
    port: int
    target: Backend | Unavailable = field(default_factory=lambda: Unavailable("it starts", 7))
    seen: list[Exchange] = field(default_factory=list)
    servers: list[asyncio.Server] = field(default_factory=list)

    async def behind(self, script: Script) -> Backend:
        """Puts a backend behind the relay that plays the script for every connection."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            exchange = Exchange(reader, writer)
            self.seen.append(exchange)
            try:
                exchange.head = await reader.readuntil(b"\r\n\r\n")
                await script(exchange)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.servers.append(server)
        self.target = Backend("127.0.0.1", server.sockets[0].getsockname()[1])
        return self.target

    async def connect(self) -> Exchange:
        return Exchange(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ask(self, client: Exchange, request: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> bytes:
        """Returns the body of an answer that has a length."""
        await client.send(request)
        client.head = await client.reader.readuntil(b"\r\n\r\n")
        return await client.body()


@asynccontextmanager
async def stage():
    made = Stage(Relay(lambda: made.target), ports.private_port())
    await made.relay.listen("127.0.0.1", made.port)
    try:
        yield made
    finally:
        await made.relay.close(0.2)
        for server in made.servers:
            server.close()


def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), stage() as made:
            await scene(made)

    asyncio.run(run())


def test_a_connection_that_is_kept_follows_the_traffic():
    async def scene(on: Stage) -> None:
        await on.behind(always(b"one"))
        client = await on.connect()
        assert await on.ask(client) == b"one"
        await on.behind(always(b"two"))
        assert await on.ask(client) == b"two"
        on.target = Unavailable("it is being stopped", 3)
        assert b"being stopped" in await on.ask(client)
        await on.behind(always(b"three"))
        assert await on.ask(client) == b"three"

    play(scene)


def test_an_answer_that_has_begun_stays_with_its_server():
    async def scene(on: Stage) -> None:
        gate = asyncio.Event()

        async def slowly(exchange: Exchange) -> None:
            await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            await gate.wait()
            await exchange.send(b"3\r\nend\r\n0\r\n\r\n")

        await on.behind(slowly)
        client = await on.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.reader.readuntil(b"one\r\n")).startswith(b"HTTP/1.1 200")
        await on.behind(always(b"two"))
        gate.set()
        assert await client.reader.readuntil(b"0\r\n\r\n") == b"3\r\nend\r\n0\r\n\r\n"
        assert await on.ask(client) == b"two"

    play(scene)


def test_nothing_behind_it_is_said_with_the_cause_and_when_to_come_again():
    async def scene(on: Stage) -> None:
        client = await on.connect()
        body = await on.ask(client, b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        assert client.head.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 7\r\n" in client.head
        error = json.loads(body)["error"]
        assert (error["code"], error["type"]) == (503, "service_unavailable")
        assert "it starts" in error["message"]
        assert b"it starts" in await on.ask(client), "the connection can be used again"

    play(scene)


def test_a_server_that_ended_without_a_word_is_a_503_too():
    async def scene(on: Stage) -> None:
        async def ends(exchange: Exchange) -> None:
            await exchange.body()

        await on.behind(ends)
        client = await on.connect()
        await on.ask(client, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
        assert client.head.startswith(b"HTTP/1.1 503")
        on.servers[0].close()
        await on.servers[0].wait_closed()
        await on.ask(client)
        assert client.head.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 5\r\n" in client.head

    play(scene)


def test_half_an_answer_never_looks_whole(caplog):
    async def scene(on: Stage) -> None:
        async def breaks_off(exchange: Exchange) -> None:
            await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            exchange.writer.transport.abort()

        await on.behind(breaks_off)
        client = await on.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            rest = await client.reader.read()
        except ConnectionResetError:
            rest = b""
        assert not rest.endswith(b"0\r\n\r\n")

    play(scene)
    assert "Traceback" not in caplog.text, "it was cut on purpose"


def test_a_client_that_leaves_ends_the_generation_for_it():
    async def scene(on: Stage) -> None:
        left = asyncio.Event()

        async def generates(exchange: Exchange) -> None:
            await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            try:
                if await exchange.reader.read() == b"":
                    left.set()
            except ConnectionResetError:
                left.set()

        await on.behind(generates)
        client = await on.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        client.writer.close()
        await left.wait()

    play(scene)


def test_bodies_pass_in_both_directions_however_they_are_framed():
    async def scene(on: Stage) -> None:
        big = bytes(range(256)) * 8192  # 2 MiB

        async def echoes(exchange: Exchange) -> None:
            if b"100-continue" in exchange.head:
                await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if b"chunked" not in exchange.head:
                return await says(exchange, await exchange.body())
            body = b""
            while size := int(await exchange.reader.readline(), 16):
                body += await exchange.reader.readexactly(size)
                await exchange.reader.readline()
            await says(exchange, body)

        await on.behind(echoes)
        client = await on.connect()
        head = b"POST / HTTP/1.1\r\nHost: x\r\n"
        assert await on.ask(client, head + b"Content-Length: %d\r\n\r\n" % len(big) + big) == big
        chunked = b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n6;x=y\r\n there\r\n0\r\n\r\n"
        assert await on.ask(client, head + chunked) == b"hi there"

    play(scene)


def test_a_client_that_waits_for_100_gets_it_from_the_server():
    async def scene(on: Stage) -> None:
        async def invites(exchange: Exchange) -> None:
            assert b"100-continue" in exchange.head
            await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await says(exchange, await exchange.body())

        await on.behind(invites)
        client = await on.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        assert await on.ask(client, b"hi") == b"hi"

    play(scene)


def test_an_early_refusal_reaches_a_client_that_still_sends(monkeypatch):
    monkeypatch.setattr(relay, "UNREAD_BODY_SECONDS", 0.2)

    async def scene(on: Stage) -> None:
        async def refuses(exchange: Exchange) -> None:
            await exchange.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")

        await on.behind(refuses)
        client = await on.connect()
        assert await on.ask(client, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\nhello") == b"big"
        assert client.head.startswith(b"HTTP/1.1 413")
        assert await client.reader.read() == b"", "the rest of the body can never be told from a next request"

    play(scene)


def test_a_large_body_that_the_server_refuses_unread_is_not_sent_to_it():
    async def scene(on: Stage) -> None:
        async def refuses(exchange: Exchange) -> None:
            await exchange.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
            sent.append(await exchange.reader.read())

        sent: list[bytes] = []
        await on.behind(refuses)
        for framing, body in (
            (b"Content-Length: 9000000", b"x" * 9_000_000),
            (b"Transfer-Encoding: chunked", b"800000\r\n" + b"x" * 0x800000 + b"\r\n0\r\n\r\n"),
        ):
            client = await on.connect()
            assert await on.ask(client, b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n" + body) == b"big"
            assert client.head.startswith(b"HTTP/1.1 413")
            assert await on.ask(client) == b"big", "the connection can be used again"
        assert set(sent) == {b""}

    play(scene)


def test_a_target_that_is_no_path_reaches_no_server():
    async def scene(on: Stage) -> None:
        await on.behind(always(b"one"))
        for target in (b"http://127.0.0.1:9/", b"@127.0.0.1:9/", b"*", b"127.0.0.1:9"):
            client = await on.connect()
            await client.send(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.reader.readline())[:10] == b"HTTP/1.1 4"
        assert on.seen == []

    play(scene)


def test_a_header_that_cannot_be_passed_on_as_it_is_reaches_no_server():
    """aiohttp writes text, and would leave out the bytes that are none."""

    async def scene(on: Stage) -> None:
        await on.behind(always(b"one"))
        client = await on.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer caf\xe9\r\n\r\n")
        assert b" 400 " in await client.reader.readline()
        assert on.seen == []

    play(scene)


def test_a_body_that_is_broken_is_the_clients_fault_and_not_the_servers():
    async def scene(on: Stage) -> None:
        await on.behind(always(b"one"))
        client = await on.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nno chunk\r\n")
        assert (await client.reader.readline()).startswith(b"HTTP/1.1 400 ")

    play(scene)


def test_an_answer_and_its_pieces_do_not_wait_for_each_other():
    """A small packet that waits until the one before it is acknowledged takes 40 ms."""

    async def scene(on: Stage) -> None:
        await on.behind(always(b"one"))
        client = await on.connect()
        took = []
        for _ in range(10):
            begun = asyncio.get_running_loop().time()
            await on.ask(client)
            took.append(asyncio.get_running_loop().time() - begun)
        assert statistics.median(took) < 0.03, took

    play(scene)


def test_what_belongs_to_one_hop_stays_there_and_everything_else_passes():
    async def scene(on: Stage) -> None:
        async def closes(exchange: Exchange) -> None:
            await exchange.send(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Request-Id: r1\r\nContent-Length: 2\r\n\r\nok"
            )

        await on.behind(closes)
        client = await on.connect()
        asked = b"GET /v1/models?x=1 HTTP/1.1\r\nHost: example.org:1\r\nAuthorization: Bearer k\r\n"
        asked += b"Connection: keep-alive\r\n\r\n"
        assert await on.ask(client, asked) == b"ok"
        assert b"x-request-id: r1" in client.head.lower()
        assert b"connection: close" not in client.head.lower()
        head = on.seen[0].head
        assert head.startswith(b"GET /v1/models?x=1 HTTP/1.1\r\n")
        assert b"Host: example.org:1\r\n" in head
        assert b"Authorization: Bearer k\r\n" in head
        assert b"keep-alive" not in head
        assert await on.ask(client) == b"ok", "the client's connection outlives the server's"

    play(scene)


def test_requests_that_are_sent_ahead_are_answered_in_their_order():
    async def scene(on: Stage) -> None:
        async def names_its_path(exchange: Exchange) -> None:
            await says(exchange, exchange.head.split(b" ")[1])

        await on.behind(names_its_path)
        client = await on.connect()
        await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
        for path in (b"/a", b"/b"):
            client.head = await client.reader.readuntil(b"\r\n\r\n")
            assert await client.body() == path

    play(scene)


def test_an_answer_to_head_has_no_body_and_an_old_client_gets_one_that_ends_with_the_connection():
    async def scene(on: Stage) -> None:
        async def streams(exchange: Exchange) -> None:
            if exchange.head.startswith(b"HEAD"):
                return await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
            await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")

        await on.behind(streams)
        client = await on.connect()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Content-Length: 99" in await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        answer = await client.reader.read()
        assert b"chunked" not in answer
        assert answer.endswith(b"\r\n\r\nhi")

    play(scene)


def test_what_is_no_http_is_refused_and_touches_no_server():
    async def scene(on: Stage) -> None:
        await on.behind(always(b"one"))
        for nonsense in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000,
        ):
            client = await on.connect()
            await client.send(nonsense)
            assert (await client.reader.readline())[:10] == b"HTTP/1.1 4"
            assert b'{"error": {' in await client.reader.read()
        assert on.seen == []

    play(scene)


def test_it_moves_to_another_address_and_open_connections_stay():
    async def scene(on: Stage) -> None:
        await on.behind(always(b"one"))
        client = await on.connect()
        assert await on.ask(client) == b"one"
        await on.relay.listen("0.0.0.0", on.port)
        assert await on.ask(client) == b"one"
        assert await on.ask(await on.connect()) == b"one"
        await on.relay.listen("127.0.0.1", on.port)
        assert await on.ask(await on.connect()) == b"one"
        assert ports.port_in_use(on.port) is not None

    play(scene)


def test_a_connection_from_outside_ends_when_only_this_machine_may_ask():
    async def scene(on: Stage) -> None:
        await on.behind(always(b"one"))
        outside = _own_address()
        await on.relay.listen("0.0.0.0", on.port)
        client = Exchange(*await asyncio.open_connection(outside, on.port))
        assert await on.ask(client) == b"one"
        await on.relay.listen("127.0.0.1", on.port)
        if outside.startswith("127."):
            return  # A machine without a network has no outside.
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.reader.read() == b""

    play(scene)


def _own_address() -> str:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # Sends nothing: it only asks which address would be used.
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def test_B_when_all_connections_ask_something_a_further_one_is_closed_at_once(monkeypatch):
    """Clients must not use up the descriptors with which the daemon looks at its servers."""

    monkeypatch.setattr(relay, "most_connections", lambda: 2)

    async def scene(on: Stage) -> None:
        gate = asyncio.Event()

        async def slowly(exchange: Exchange) -> None:
            await gate.wait()
            await says(exchange, b"one")

        await on.behind(slowly)
        first, second = await on.connect(), await on.connect()
        asked = [asyncio.create_task(on.ask(client)) for client in (first, second)]
        while len(on.seen) < 2:  # noqa: ASYNC110 (what it waits for is the stage's own state)
            await asyncio.sleep(0.01)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await on.ask(await on.connect())
        gate.set()
        assert await asyncio.gather(*asked) == [b"one", b"one"]

    play(scene)


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_B_above_the_cap_those_who_are_silent_longest_give_way_and_a_new_client_is_answered(monkeypatch, start):
    monkeypatch.setattr(relay, "most_connections", lambda: 4)

    async def scene(on: Stage) -> None:
        await on.behind(always(b"one"))
        for _ in range(12):
            silent = await on.connect()
            await silent.send(start)
            await asyncio.sleep(0.01)
        assert await on.ask(await on.connect()) == b"one"

    play(scene)


def test_all_headers_of_a_request_together_are_bounded():
    async def scene(on: Stage) -> None:
        await on.behind(always(b"one"))
        client = await on.connect()
        assert await on.ask(client) == b"one"
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for number in range(100):
            await client.send(b"X-%d: " % number + b"a" * 2000 + b"\r\n")
            await asyncio.sleep(0)
        answer = await client.reader.read()
        assert answer.startswith(b"HTTP/1.1 431"), answer[:100]
        assert str(relay.HEAD_BYTES).encode() in answer
        assert len(on.seen) == 1

    play(scene)


def test_a_connection_that_asks_nothing_is_not_kept(monkeypatch):
    async def scene(on: Stage) -> None:
        monkeypatch.setattr(relay, "FIRST_REQUEST_SECONDS", 0.1)
        await on.behind(always(b"one"))
        silent = await on.connect()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await silent.reader.readexactly(1)

    play(scene)
