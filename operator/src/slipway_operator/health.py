"""/healthz, /readyz and /metrics.

They are answered by the loop that does everything else: one that is stuck answers none, and the kubelet's probe fails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from slipway_operator.loop.metrics import Metrics
from slipway_operator.loop.work_queue import WorkQueue
from slipway_operator.watch.ages import WatchAges

_STALLED = 180.0
"""Seconds; longer than the longest pass, so that one of them in every worker is not yet a stall."""


@dataclass(frozen=True)
class Health:
    queue: WorkQueue
    watches: WatchAges

    def ails(self) -> list[str]:
        """Returns what only a restart mends; nothing when all is well."""
        found = [f"the watch of {kind} has ended or hangs" for kind in self.watches.dead()]
        stalled = self.queue.stalled()
        if stalled > _STALLED:
            found.append(f"{len(self.queue)} objects wait for a pass, and none began for {stalled:.0f} s")
        return found

    def lacks(self) -> list[str]:
        """Returns what a replica needs before it could lead."""
        return [] if self.watches.started() else ["the watches have not started"]


def application(health: Health, metrics: Metrics) -> web.Application:
    app = web.Application()
    app.router.add_get("/healthz", _answer(health.ails))
    app.router.add_get("/readyz", _answer(health.lacks))

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app.router.add_get("/metrics", scrape)
    return app


async def serve(app: web.Application, port: int) -> web.AppRunner:
    """Listens on all addresses. Returns what to clean up at the end. Raises OSError when the port is taken."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner


def _answer(problems: Callable[[], list[str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        found = problems()
        return web.Response(status=503 if found else 200, text="\n".join(found) or "ok")

    return answer
