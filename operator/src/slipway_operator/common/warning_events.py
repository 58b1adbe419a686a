"""The Events that warn of what keeps a Job from having pods, or a pod from having its volumes: nothing else tells.

The API server looks through every Event of a namespace for each list of them. So they are listed for all silent pods of
a namespace together: with a list a pod, 200 runs that started together on a busy API server kept it busy with that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from slipway_core.resources.conditions import parse_timestamp
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.manifest import Manifest, at

_FRESH: Final = timedelta(seconds=10)
"""For how long a list is good enough: a condition names a cause within 30 s of it."""
_RECENT: Final = timedelta(minutes=3)
_STANDING: Final = timedelta(minutes=8)
"""How old the last word about a mount may be. The kubelet says it again about every 2 minutes; one that it has said for
longer than 3 minutes may be about to run out of its Events, which are then one in 5 minutes for each pod."""
_MOUNTS: Final = ("FailedMount", "FailedAttachVolume")


@dataclass
class _Told:
    """What was listed of one namespace."""

    at: datetime | None = None
    by_uid: dict[str, list[Manifest]] = field(default_factory=dict[str, list[Manifest]])
    """By the uid of the object that an Event is about."""
    listing: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class WarningEvents:
    """Belongs to one event loop."""

    cluster: Cluster
    clock: Callable[[], datetime]
    _told: dict[str, _Told] = field(default_factory=dict[str, _Told])

    async def about(self, involved: Manifest) -> list[Manifest]:
        """Returns what warns of an object, listed at most 10 s ago, but for mounts that have long been tried again.

        Raises ClusterError.
        """
        metadata = at(involved, "metadata")
        told = self._told.setdefault(metadata["namespace"], _Told())
        async with told.listing:
            if told.at is None or self.clock() - told.at >= _FRESH:
                await self._list(metadata["namespace"], told)
        return [event for event in told.by_uid.get(metadata["uid"], []) if not _is_over(event, self.clock())]

    async def _list(self, namespace: str, told: _Told) -> None:
        found: dict[str, list[Manifest]] = {}
        for event in await self.cluster.warnings(namespace):
            found.setdefault(str(at(event, "involvedObject").get("uid")), []).append(event)
        told.at, told.by_uid = self.clock(), found
        self._let_go()

    def _let_go(self) -> None:
        """Namespaces where nothing is silent any more need no memory."""
        old = [
            namespace
            for namespace, told in self._told.items()
            if told.at is not None and self.clock() - told.at > 6 * _FRESH and not told.listing.locked()
        ]
        for namespace in old:
            del self._told[namespace]


def _is_over(event: Manifest, now: datetime) -> bool:
    """Whether a mount that failed has succeeded since: nothing tells so, but that it is not said again."""
    first = event.get("firstTimestamp") or event.get("eventTime")
    last = at(event, "series").get("lastObservedTime") or event.get("lastTimestamp") or first
    if event.get("reason") not in _MOUNTS or not last:
        return False
    stood = parse_timestamp(last) - parse_timestamp(first or last)
    return now - parse_timestamp(last) > (_STANDING if stood > _RECENT else _RECENT)
