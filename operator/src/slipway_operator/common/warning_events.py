"""The Events that warn of what keeps a Job from having pods, or a pod from having its volumes: nothing else tells.

The API server looks through every Event of a namespace for each list of them. So they are listed for all silent pods of
a namespace together: with a list a pod, 200 runs that started together on a busy API server kept it busy with that.

They say why, and nothing else. A cluster may keep them in a store of their own, which may be away alone: what is
decided about a run does not wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from slipway_core.resources.conditions import Blocker, parse_timestamp
from slipway_operator.common import blockers
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import ClusterError
from slipway_operator.kube.manifest import Manifest, at

_FRESH: Final = timedelta(seconds=10)
"""For how long a list is good enough: a condition names a cause within 30 s of it."""
_RELOOK: Final = timedelta(seconds=30)
"""How long a namespace whose Events could not be listed is not asked again."""
_ANSWER_SECONDS: Final = 20.0
"""How long an answer is waited for, with what a run was told meanwhile."""
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
    error: str | None = None
    """Why they could not be listed the last time."""


@dataclass
class WarningEvents:
    """Belongs to one event loop."""

    cluster: Cluster
    clock: Callable[[], datetime]
    patience: float = _ANSWER_SECONDS
    _told: dict[str, _Told] = field(default_factory=dict[str, _Told])

    async def blockers(self, involved: Manifest) -> tuple[Blocker, ...]:
        """Returns what Events tell that keeps a Job from having pods, or a pod from having volumes; or that they cannot
        be read."""
        found, error = await self._about(involved)
        if error is None:
            return blockers.of_events(found)
        name = f"{involved['kind']} {at(involved, 'metadata')['name']}"
        message = f"the {name} does not start, and the Events that say why cannot be read: {error}"
        return (Blocker("CauseUnknown", "EventsUnreadable", message, warns=False),)

    async def _about(self, involved: Manifest) -> tuple[list[Manifest], str | None]:
        """Returns what warns of an object, listed at most 10 s ago, but for mounts that have long been tried again; and
        why that is not known."""
        metadata = at(involved, "metadata")
        told = self._told.setdefault(metadata["namespace"], _Told())
        async with told.listing:
            if told.at is None or self.clock() - told.at >= (_FRESH if told.error is None else _RELOOK):
                await self._list(metadata["namespace"], told)
        own = told.by_uid.get(metadata["uid"], [])
        return [event for event in own if not _is_over(event, self.clock())], told.error

    async def _list(self, namespace: str, told: _Told) -> None:
        found: dict[str, list[Manifest]] = {}
        told.error = None
        try:
            async with asyncio.timeout(self.patience):
                for event in await self.cluster.warnings(namespace):
                    found.setdefault(str(at(event, "involvedObject").get("uid")), []).append(event)
        except ClusterError as error:
            told.error = str(error)
        except TimeoutError:
            told.error = f"no answer within {self.patience:g} s"
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
