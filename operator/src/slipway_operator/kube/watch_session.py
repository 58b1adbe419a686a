"""The HTTP of Kopf's watches, so that nothing that a tenant makes is held whole, or in numbers, at any time.

Kopf lists a kind in pages of a fixed number of objects, and holds one page of every kind. At 1.5 MB an object that is
more than the operator has. Here a page that is too long is asked for again with fewer objects.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp

from slipway_operator.kube import kinds
from slipway_operator.kube.answer import decoded
from slipway_operator.kube.cluster import PAGE_BYTES, next_limit, read_at_most
from slipway_operator.kube.errors import TooLong


@dataclass(frozen=True)
class WatchSession:
    """As much of an aiohttp session as Kopf uses."""

    session: aiohttp.ClientSession
    _limits: dict[str, int] = field(default_factory=dict[str, int])
    """Objects in the next page of a list, by its path; Kopf asks for as many in each."""

    @property
    def headers(self) -> Any:
        return self.session.headers

    @property
    def closed(self) -> bool:
        return self.session.closed

    async def close(self) -> None:
        await self.session.close()

    async def request(self, method: str, url: str, **options: Any) -> aiohttp.ClientResponse | Page:
        """Returns the stream of a watch, or the answer to a list: PAGE_BYTES at most, unless one object has more."""
        path, _, query = url.partition("?")
        given = dict(parse_qsl(query))
        watches, limit = "watch" in given, int(given.get("limit", 0))
        if "continue" in given and limit:
            limit = self._limits.get(path, limit)
            url = f"{path}?{urlencode({**given, 'limit': limit})}"
        kind = kinds.named(path.rpartition("/")[2])
        headers = dict(options.pop("headers", None) or {})
        if kind is not None:
            headers["Accept"] = kinds.accept(kind, listed=not watches)
        while True:
            begun = asyncio.get_running_loop().time()
            answer = await self.session.request(method, url, headers=headers, **options)
            if watches or kind is None or answer.status != 200:
                return answer
            try:
                content = await (read_at_most(answer, PAGE_BYTES) if limit > 1 else answer.read())
                self._limits[path] = next_limit(limit, asyncio.get_running_loop().time() - begun)
                return Page(answer.status, content)
            except TooLong:
                limit = max(1, limit // 8)
                url = f"{path}?{urlencode({**given, 'limit': limit})}"


@dataclass(frozen=True)
class Page:
    """An answer that was read: as much of an aiohttp response as Kopf uses."""

    status: int
    content: bytes

    async def json(self) -> Any:
        told = decoded(self.content)
        # A list of metadata alone that is empty has null there, which Kopf does not take.
        return {**told, "items": told.get("items") or []}

    async def __aenter__(self) -> Page:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
