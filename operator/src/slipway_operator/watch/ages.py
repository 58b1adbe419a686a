"""How long ago each watch asked the API server, which tells a watch that has ended from one that has nothing to say.

A watch asks anew at least every `server_timeout` seconds, whether anything happens or not, and more often while the API
server does not answer. So one that has not asked for much longer has no task any more, or one that hangs: Kopf starts
neither again (nolar/kopf#1276). Nothing is asked of the API server to find that out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace

import aiohttp

from slipway_operator.kube.kinds import Kind

WATCH_SECONDS = 60
"""How long the API server keeps one request to watch open."""
DEAD_AFTER = 200.0
"""Seconds: one request, the longest pause between two tries, and a time for connecting to fail twice."""


@dataclass
class WatchAges:
    kinds: Iterable[Kind]
    monotonic: Callable[[], float]
    _asked: dict[str, float] = field(default_factory=dict[str, float])
    """By path without a query: one for each kind, or for each kind and namespace."""
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Says that the watches start now."""
        self._since = self.monotonic()

    def asked(self, path: str) -> None:
        """Notes that a watch asks for this path."""
        self._asked[path] = self.monotonic()

    def ages(self) -> dict[str, float]:
        """Returns by kind the seconds since its most silent watch asked; since the start if none ever did."""
        now = self.monotonic()
        found: dict[str, float] = {}
        for kind in self.kinds:
            own = [at for path, at in self._asked.items() if path.endswith(f"/{kind.plural}")]
            found[kind.kind] = now - min(own, default=self._since)
        return found

    def dead(self) -> list[str]:
        """Returns the kinds of which a watch is dead."""
        return [kind for kind, age in self.ages().items() if age > DEAD_AFTER]

    def started(self) -> bool:
        """Tells whether each kind has been asked for."""
        return all(any(path.endswith(f"/{kind.plural}") for path in self._asked) for kind in self.kinds)

    def trace(self) -> aiohttp.TraceConfig:
        """Returns what a client session needs to tell of its watches."""
        config = aiohttp.TraceConfig()

        async def on_start(
            session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestStartParams
        ) -> None:
            if params.url.query.get("watch") == "true":
                self.asked(params.url.path)

        config.on_request_start.append(on_start)
        return config
