"""The first part of a server's end: it still answers, and sends its clients to where they go next.

A pod that is told to end gets requests for a moment longer, until every node knows that it is leaving; and a client's
kept connection stays with the pod that it was made to, wherever the Service points by now.
"""

from __future__ import annotations

import asyncio


class Linger:
    """Under way from SIGTERM on: not ready, and every response closes its connection."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._under_way = False

    @property
    def under_way(self) -> bool:
        return self._under_way

    async def run(self, died: asyncio.Future[None]) -> None:
        """Goes on answering for so many seconds, or until the engine is dead."""
        self._under_way = True
        await asyncio.wait((died,), timeout=self._seconds)
