"""What Kopf keeps about an object between two events: nothing.

Its own storages copy every object several times to find out what changed, which nobody here asks: half of the time of
an event.
"""

from __future__ import annotations

from typing import Any, cast

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory


class NoMemories(ResourceMemories):
    """Kopf keeps a memory of every object, for handlers that ours are not: it would grow with what anybody makes."""

    async def recall(self, raw_body: Any, *, memobase: Any = None, **_: Any) -> ResourceMemory:
        return await super().recall(raw_body, memobase=memobase, ephemeral=True)


class NoEssence(kopf.DiffBaseStorage):
    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return cast(Any, {})

    def fetch(self, *, body: Any) -> Any:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        return None


class NoProgress(kopf.ProgressStorage):
    def fetch(self, *, key: Any, body: Any) -> Any:
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        return None

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        return None

    def touch(self, *, body: Any, patch: Any, value: str | None) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence
