"""Lists everything that is watched: before the first pass, so that what is absent is absent, and now and then after it.

Kopf's own lists tell of no deletion that its watch missed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from slipway_core.resources.status import Phase
from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.cache.world import OWN_KEYS, World
from slipway_operator.common.orphaned_objects import suspects
from slipway_operator.kube import kinds
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import Expired
from slipway_operator.kube.kinds import MODEL_ENDPOINT, TRAINING_RUN, Kind
from slipway_operator.kube.manifest import Manifest, at
from slipway_operator.loop.work_queue import WorkQueue

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resync:
    cluster: Cluster
    world: World
    queue: WorkQueue
    namespaces: tuple[str, ...]
    """Empty for all."""

    async def once(self, *, first: bool) -> None:
        """Lists every kind, one after the other, page by page. Raises ClusterError.

        The first one is followed by a pass over everything; a later one by passes over what changed or is under way.
        """
        for kind in (*kinds.OWN, *kinds.CHILDREN):
            changed, missed = await self._kind(kind)
            for key in changed:
                self.queue.add(key)
                for run in self._told_by(key):
                    self.queue.add(run)
            if missed and not first:
                _log.info("%d %s were not as the watch had told", missed, kind.plural)
        for key in self._everything() if first else self._under_way():
            self.queue.add(key, new=True)

    async def _kind(self, kind: Kind) -> tuple[list[Key], int]:
        selector = None if kind in kinds.OWN else names.CHILDREN
        for _ in range(3):
            sweep = self.world.sweep(kind, self.namespaces)
            versions: list[int] = []
            try:
                for namespace in self.namespaces or (None,):
                    async for page, version in self.cluster.pages(kind, namespace, selector):
                        sweep.see(page)
                        versions.append(int(version or 0))
            except Expired:
                continue
            return sweep.finish(str(min(versions))), sweep.missed
        raise Expired(f"the list of {kind.plural} took longer than the API server keeps one, three times")

    def _told_by(self, key: Key) -> Iterable[Key]:
        """Yields the runs that an endpoint is news for, those that serve included: nothing else looks at them again."""
        if key.kind == MODEL_ENDPOINT.kind:
            for run in self.world.runs_for(key.namespace, key.name):
                yield Key("TrainingRun", key.namespace, run["metadata"]["name"])

    def _everything(self) -> Iterable[Key]:
        first_come = sorted((*self.world.all(TRAINING_RUN), *self.world.all(MODEL_ENDPOINT)), key=_created)
        for manifest in first_come:
            if owner := self.world.owner(manifest):
                yield owner
        yield from self._set_aside()
        yield from self._namespaces()

    def _under_way(self) -> Iterable[Key]:
        for run in self.world.all(TRAINING_RUN):
            phase = at(run, "status").get("phase")
            if phase not in tuple(Phase) or not Phase(phase).finished:
                yield Key("TrainingRun", run["metadata"]["namespace"], run["metadata"]["name"])
        for endpoint in self.world.all(MODEL_ENDPOINT):
            yield Key("ModelEndpoint", endpoint["metadata"]["namespace"], endpoint["metadata"]["name"])
        yield from self._set_aside()
        yield from self._namespaces()

    def _set_aside(self) -> Iterable[Key]:
        """Yields what is beyond the limits of its namespace and does not say so, or would have a place by now."""
        for kind in kinds.OWN:
            aside = self.world.all_aside(kind)
            for namespace, one in aside:
                if not one.told:
                    yield Key(OWN_KEYS[kind.kind], namespace, one.rank.name)
            for namespace in {namespace for namespace, _ in aside}:
                yield from self.world.next_in(kind, namespace)

    def _namespaces(self) -> Iterable[Key]:
        """Yields the namespaces in which a run that is gone left its plan, or anything is without an owner."""
        alone = [manifest["metadata"]["namespace"] for manifest in suspects(self.world)]
        for namespace in dict.fromkeys([*self.world.orphaned(), *alone]):
            yield Key("Namespace", namespace, namespace)


def _created(manifest: Manifest) -> tuple[str, str]:
    metadata = at(manifest, "metadata")
    return str(metadata.get("creationTimestamp", "")), str(metadata.get("name", ""))
