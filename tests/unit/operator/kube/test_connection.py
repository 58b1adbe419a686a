"""The way to the API server: by the kubeconfig, through the proxy of the environment, and by nothing in a `.netrc`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.connection import connect
from slipway_operator.kube.kinds import CONFIG_MAP
from slipway_operator.kube.manifest import Manifest
from slipway_operator.kube.rate_limit import TokenBucket

ANSWER = b'{"kind":"ConfigMap","metadata":{"name":"a"}}'


@dataclass
class Listener:
    """An HTTP server, or a proxy, that answers everything with a ConfigMap."""

    port: int = 0
    heads: list[str] = field(default_factory=list[str])
    """Of the requests that came."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Listener]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(ANSWER)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + ANSWER)
        await writer.drain()
        writer.close()

    @property
    def asked(self) -> list[str]:
        """What was asked for: a path, or of a proxy a whole URL."""
        return [head.split(" ")[1] for head in self.heads]


def kubeconfig(folder: Path, server: str, **cluster: str) -> Path:
    named = {"name": "a", "cluster": {"server": server, **cluster}}
    document = {
        "clusters": [named],
        "users": [{"name": "a", "user": {"token": "of-the-operator"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


async def read_one(config: Path) -> Manifest | None:
    connection = await connect(config, None)
    api = connection.api_client()
    try:
        limit = TokenBucket(100, 100, asyncio.get_running_loop().time)
        return await Cluster(api, limit, lambda: datetime.now(UTC)).get(CONFIG_MAP, "team", "a")
    finally:
        await api.close()


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_netrc_says_nothing_about_who_the_operator_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async def scenario() -> None:
        async with Listener().listening() as server:
            assert await read_one(kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}")) is not None
            assert "authorization: bearer of-the-operator" in server.heads[0].lower()

    asyncio.run(scenario())


def test_requests_go_through_the_proxy_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def scenario() -> None:
        async with Listener().listening() as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://who:what@127.0.0.1:{proxy.port}")
            assert await read_one(kubeconfig(tmp_path, "http://api.example:6443")) is not None
            assert proxy.asked == ["http://api.example:6443/api/v1/namespaces/team/configmaps/a"]
            assert "proxy-authorization: basic d2hvondoyxq=" in proxy.heads[0].lower()

    asyncio.run(scenario())


def test_those_that_the_environment_takes_out_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def scenario() -> None:
        async with Listener().listening() as server, Listener().listening() as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("NO_PROXY", "10.0.0.0,127.0.0.1")
            assert await read_one(kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}")) is not None
            assert (len(server.asked), proxy.asked) == (1, [])

    asyncio.run(scenario())


def test_the_proxy_of_the_kubeconfig_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def scenario() -> None:
        async with Listener().listening() as named, Listener().listening() as other:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{other.port}")
            given = {"proxy-url": f"http://127.0.0.1:{named.port}"}
            assert await read_one(kubeconfig(tmp_path, "http://api.example:6443", **given)) is not None
            assert (len(named.asked), other.asked) == (1, [])

    asyncio.run(scenario())


def test_watches_go_through_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def scenario() -> None:
        async with Listener().listening() as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            connection = await connect(kubeconfig(tmp_path, "http://api.example:6443"), None)
            made = await connection.kopf_session(aiohttp.TraceConfig())
            session: Any = made.aiohttp_session
            try:
                answer = await session.request("get", "http://api.example:6443/api/v1/pods?watch=true")
                assert answer.status == 200
            finally:
                await session.close()
            assert proxy.asked == ["http://api.example:6443/api/v1/pods?watch=true"]

    asyncio.run(scenario())
