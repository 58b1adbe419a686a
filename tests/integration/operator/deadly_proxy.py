"""A way to the API server on which the operator dies: after one of its writes has been done, before it is told so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
            self._on(loop, _let_go())
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
        async with session.request(
            request.method,
            f"{server}{request.raw_path}",
            headers=headers,
            data=body or None,
            skip_auto_headers=("Content-Type",),
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            # Those of its Lease say that it lives; it would die of each of them before it did anything.
            if request.method != "GET" and "/leases" not in request.path:
                return self._write_done(request, answer.status, kept, await answer.read())
            response = web.StreamResponse(status=answer.status, headers=kept)
            with suppress(ConnectionError):  # It was killed while it was told.
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            return response

    def _write_done(self, request: web.Request, status: int, headers: dict[str, str], body: bytes) -> web.Response:
        write = f"{request.method} {request.path}"
        if status < 300:
            self.writes.append(write)
            if self.dies_after(write):
                self.kill()
        return web.Response(status=status, headers=headers, body=body)

    @staticmethod
    def _on(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)


async def _let_go() -> None:
    """Ends what still passes on a watch: nobody is left to be told."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
