"""Kopf's handlers: an event goes into the world, and the keys of those that it is news for onto the queue.

Nothing of Kopf beyond its watches is used: no finalizers, no annotations, no handlers' progress, no Events, no peering.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import kopf

from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.cache.world import World, version_of
from slipway_operator.kube import kinds
from slipway_operator.kube.manifest import Manifest
from slipway_operator.loop.work_queue import WorkQueue
from slipway_operator.watch.ages import WATCH_SECONDS
from slipway_operator.watch.event_mapping import woken
from slipway_operator.watch.kopf_storage import NoEssence, NoProgress

_CHUNK = 50
"""Objects in one answer to Kopf's list. It holds several answers of every kind at once, each object in a task."""

Login = Callable[[], Awaitable[kopf.AiohttpSession]]


@dataclass(frozen=True)
class WatchHandlers:
    world: World
    queue: WorkQueue

    def told(self, type_: str | None, manifest: Manifest) -> None:
        """Takes one event of a watch: `type_` is ADDED, MODIFIED, DELETED, or None while the watch lists."""
        kind = kinds.of(manifest)
        metadata = manifest["metadata"]
        before = self.world.get(kind, metadata.get("namespace", ""), metadata["name"])
        if type_ == "DELETED":
            self.world.remove(manifest)
            if before is None:
                # Somebody's pass removed it already, or it was never seen: it may still be what a pass waits for.
                before = manifest
            news = woken(self.world, before, None)
        elif self.world.put(manifest):
            news = woken(self.world, before, manifest)
        elif before is not None and version_of(before) == version_of(manifest):
            news = self._news_of_a_pass(manifest)
        else:
            return
        new = type_ != "MODIFIED" and kind in kinds.OWN
        for key in news:
            self.queue.add(key, new=new)

    def _news_of_a_pass(self, manifest: Manifest) -> Iterable[Key]:
        """Yields who else reads what a pass wrote and put into the world itself: the runs of an endpoint, and the
        endpoint that a run told what to serve."""
        writer = self.world.owner(manifest)
        for key in woken(self.world, None, manifest):
            if key != writer or key.kind == kinds.MODEL_ENDPOINT.kind:
                yield key


def registry(handlers: WatchHandlers, login: Login) -> kopf.OperatorRegistry:
    """Returns the handlers of our kinds and of everything that the operator made."""
    made = kopf.OperatorRegistry()

    async def told(event: Any, resource: Any, **_: object) -> None:
        manifest = cast(Manifest, event["object"])
        kind = kinds.named(resource.plural)
        if kind is not None:
            # Where metadata alone is watched, an object does not say of which kind it is.
            handlers.told(event["type"], {**manifest, "apiVersion": kind.api_version, "kind": kind.kind})

    async def log_in(**_: object) -> kopf.AiohttpSession:
        return await login()

    for kind in (*kinds.OWN, *kinds.CHILDREN):
        kopf.on.event(kind.group, _version(kind), kind.plural, registry=made)(cast(Any, told))
    kopf.on.login(registry=made)(cast(Any, log_in))
    return made


def kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    for kind in kinds.CHILDREN:
        # On the server's side: a cluster's other pods never reach the operator.
        settings.watching.label_selectors[kind.group, _version(kind), kind.plural] = names.CHILDREN
    settings.watching.chunk_size = _CHUNK
    settings.watching.server_timeout = WATCH_SECONDS
    # A worker for an object lives as long; with the default of 5 s a thousand events are a thousand tasks for 5 s.
    settings.queueing.idle_timeout = 0.1
    settings.queueing.exit_timeout = 0.5
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 60
    settings.persistence.diffbase_storage = NoEssence()
    settings.persistence.progress_storage = NoProgress()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Its kinds are there before it starts, and its role need not see all namespaces and all definitions.
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    return settings


def _version(kind: kinds.Kind) -> str:
    return kind.api_version.rpartition("/")[2]
