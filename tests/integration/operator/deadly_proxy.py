"""A way to the API server on which the operator dies: after one of its writes has been done, before it is told so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from tests.integration.api_client import tls_of

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


@dataclass
class DeadlyProxy:
    dies_after: Callable[[str], bool] = lambda _: False
    """Told `POST /apis/batch/v1/…/jobs` of each write that was done; True has the operator killed."""
    kill: Callable[[], None] = lambda: None
    writes: list[str] = field(default_factory=list[str])

    @contextmanager
    def listening(self, kubeconfig: Path, folder: Path) -> Iterator[Path]:
        """Passes everything on as the identity of a kubeconfig. Yields the kubeconfig for the operator."""
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        runner, port = self._on(loop, self._serve(cluster["server"], tls_of(cluster, user)))
        own = folder / "proxy.kubeconfig"
        document["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        document["users"][0]["user"] = {}
        own.write_text(yaml.safe_dump(document))
        try:
            yield own
        finally:
            self._on(loop, runner.cleanup())
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _serve(self, server: str, tls: Any) -> tuple[web.AppRunner, int]:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )

        async def forward(request: web.Request) -> web.StreamResponse:
            return await self._forward(session, server, request)

        async def close(_: web.Application) -> None:
            await session.close()

        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", forward)
        app.on_cleanup.append(close)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, runner.addresses[0][1]

    async def _forward(self, session: aiohttp.ClientSession, server: str, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        body = await request.read()
        async with session.request(request.method, f"{server}{request.raw_path}", headers=headers, data=body) as answer:
            if request.method != "GET" and answer.status < 300:
                await answer.read()
                write = f"{request.method} {request.path}"
                self.writes.append(write)
                if self.dies_after(write):
                    self.kill()
                    raise web.HTTPGone
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    @staticmethod
    def _on(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)
