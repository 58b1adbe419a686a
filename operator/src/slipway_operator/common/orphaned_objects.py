"""What is left without an owner where a run or an endpoint was deleted and its objects were not (`--cascade=orphan`).

A Job would train on, and a version serve, with nobody looking: no status, no gate, no limit on time. All that is looked
at here has an owner from its creation. So what has our name, our labels and our mark as its maker, no owner, and nobody
left whose it could be, was orphaned, and is ended as if it had gone with its owner. Labels are no proof, but here that
harms nobody: whoever forges one has an object of their own deleted. What anybody else owns is left alone.

Nothing is deleted at the word of the cache: the API server is asked for the owner and for the object, some time after
both were seen so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from slipway_core.resources.conditions import parse_timestamp
from slipway_core.resources.events import Event
from slipway_operator import names
from slipway_operator.cache.world import World, uid_of
from slipway_operator.common.next_look import soonest
from slipway_operator.kube import kinds
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import ClusterError, Conflict
from slipway_operator.kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    HPA,
    JOB,
    MODEL_ENDPOINT,
    NETWORK_POLICY,
    PDB,
    SERVICE,
    TRAINING_RUN,
    Kind,
)
from slipway_operator.kube.manifest import Manifest, items, job_end, labels

log = logging.getLogger(__name__)

_PATIENCE: Final = timedelta(minutes=1)
"""After which something that has no owner is ended: caches and the garbage collector have caught up by then."""
_CLEANUP: Final = timedelta(hours=1)
"""How long a cleanup Job whose record is gone may go on: half of a folder would stay, and nobody knows of it."""
_LATER: Final = timedelta(minutes=10)
"""Until what could not be ended is tried again: a role of an older chart has not all rights."""
_AROUND: Final = (SERVICE, PDB, NETWORK_POLICY, HPA)
"""What stands around the versions of an endpoint and would keep its name from another one."""
_ENDED: Final = "Orphaned"
"""Reason of the Event."""


def suspects(world: World, namespace: str | None = None, uid: str | None = None) -> Iterator[Manifest]:
    """Yields what has no owner and, as far as is known, nobody whose it could be. Pure.

    Args:
        world: what is known.
        namespace: of the objects; all of them where None.
        uid: of the run that made them, in that namespace; of any run or endpoint where None.
    """
    for kind in (JOB, SERVICE) if uid else (JOB, SERVICE, DEPLOYMENT):
        found = world.of_run(kind, namespace, uid) if namespace and uid else world.all(kind, namespace)
        for manifest in found:
            metadata = manifest["metadata"]
            if (
                not metadata.get("ownerReferences")
                and "deletionTimestamp" not in metadata
                and _is_alone(world, manifest)
            ):
                yield manifest


@dataclass
class OrphanedObjects:
    cluster: Cluster
    world: World
    clock: Callable[[], datetime]
    _since: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """When a suspect was first seen as one, by its uid."""

    async def end(self, namespace: str, uid: str | None = None) -> timedelta | None:
        """Ends what was orphaned in a namespace, or by one run. Returns when to look again.

        What the API server refuses keeps nothing else waiting: it is logged and tried again.
        """
        if self.world.overfull(namespace):
            return None  # Not all is known of whose anything is.
        found = list(suspects(self.world, namespace, uid))
        now = self.clock()
        self._since = {known: since for known, since in self._since.items() if now - since < 10 * _LATER}
        waits: timedelta | None = None
        for manifest in found:
            left = self._since.setdefault(uid_of(manifest), now) + _PATIENCE - now
            if left <= timedelta(0):
                left = await self._try(manifest)
            waits = soonest(waits, left)
        return waits

    async def _try(self, manifest: Manifest) -> timedelta | None:
        try:
            return await self._end(manifest)
        except Conflict:
            return _PATIENCE
        except ClusterError as error:
            name = f"{manifest['kind']} {manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
            log.warning("the %s has no owner any more and could not be ended: %s", name, error)
            return _LATER

    async def _end(self, manifest: Manifest) -> timedelta | None:
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        kind = kinds.of(manifest)
        there = await self.cluster.get(kind, namespace, name)
        if there is None or uid_of(there) != uid_of(manifest):
            return None
        whose = await self._whose(there)
        if whose is None or not _is_ours(there):
            return _LATER  # Somebody may yet take it, or say whose it is.
        if labels(there).get(names.ROLE) == names.CLEANUP and job_end(there) is None and self._age(there) < _CLEANUP:
            return _LATER
        await self._delete(kind, there, whose)
        if (endpoint := labels(there).get(names.ENDPOINT)) is not None:
            for other in _AROUND:
                own = names.service(endpoint) if other is SERVICE else names.endpoint(endpoint)
                around = await self.cluster.get(other, namespace, own)
                if around is not None and _is_ours(around) and await self._whose(around):
                    await self._delete(other, around, whose)
        return None

    async def _whose(self, manifest: Manifest) -> str | None:
        """Returns whose an object was that is gone, in words; None where the API server still has an owner for it."""
        namespace, own = manifest["metadata"]["namespace"], labels(manifest)
        if own.get(names.ROLE) == names.CLEANUP:
            record = await self.cluster.get(CONFIG_MAP, namespace, names.plan(own[names.RUN], own[names.RUN_UID]))
            return f"the record of the run {own[names.RUN]}" if record is None else None
        if uid := own.get(names.RUN_UID):
            run = await self.cluster.get(TRAINING_RUN, namespace, own.get(names.RUN, ""))
            return None if run is not None and uid_of(run) == uid else f"the run {own.get(names.RUN)}"
        endpoint = await self.cluster.get(MODEL_ENDPOINT, namespace, own[names.ENDPOINT])
        return (
            None
            if endpoint is not None and not _is_younger(endpoint, manifest)
            else f"the endpoint {own[names.ENDPOINT]}"
        )

    async def _delete(self, kind: Kind, manifest: Manifest, whose: str) -> None:
        metadata = manifest["metadata"]
        message = f"{whose} was deleted and this {kind.kind} was left without an owner: it is deleted too"
        await self.cluster.record(manifest, Event("Warning", _ENDED, message))
        version = metadata["resourceVersion"]
        await self.cluster.delete(
            kind, metadata["namespace"], metadata["name"], uid=metadata["uid"], resource_version=version
        )
        log.info("%s (%s %s/%s)", message, kind.kind, metadata["namespace"], metadata["name"])

    def _age(self, manifest: Manifest) -> timedelta:
        return self.clock() - parse_timestamp(manifest["metadata"]["creationTimestamp"])


def _is_alone(world: World, manifest: Manifest) -> bool:
    """Whether nobody is known whose an object could be that has no owner."""
    namespace, own = manifest["metadata"]["namespace"], labels(manifest)
    if not _is_named_by_us(manifest):
        return False
    if own.get(names.ROLE) == names.CLEANUP:
        return world.get(CONFIG_MAP, namespace, names.plan(own[names.RUN], own[names.RUN_UID])) is None
    if uid := own.get(names.RUN_UID):
        return not world.has_run(namespace, uid)
    endpoint = world.get(MODEL_ENDPOINT, namespace, own[names.ENDPOINT])
    if endpoint is not None:
        return _is_younger(endpoint, manifest)
    return world.aside(MODEL_ENDPOINT, namespace, own[names.ENDPOINT]) is None


def _is_ours(manifest: Manifest) -> bool:
    """Whether the operator made an object, by all that it bears, and nobody owns it."""
    managers = [entry.get("manager") for entry in items(manifest, "metadata", "managedFields")]
    owned = bool(manifest["metadata"].get("ownerReferences"))
    return not owned and names.MANAGER in managers and _is_named_by_us(manifest)


def _is_named_by_us(manifest: Manifest) -> bool:
    """Whether an object has the name that its labels make."""
    own, name = labels(manifest), manifest["metadata"]["name"]
    role, run, uid, endpoint = (own.get(label, "") for label in (names.ROLE, names.RUN, names.RUN_UID, names.ENDPOINT))
    step, attempt, version = (own.get(label, "") for label in (names.STEP, names.ATTEMPT, names.VERSION))
    if own.get(names.MANAGED_BY) != names.MANAGED_BY_VALUE:
        return False
    match manifest["kind"], role:
        case JOB.kind, "step":
            return bool(run and uid and step) and attempt.isdigit() and name in names.jobs(run, step, int(attempt))
        case JOB.kind, names.CLEANUP:
            known = [one for keep in (True, False) for one in names.cleanups(run, uid, keep_artifact=keep)]
            return bool(run and uid) and name in known
        case SERVICE.kind, "step":
            return bool(run and uid and step) and name == names.rendezvous(run, step)
        case DEPLOYMENT.kind, "serve":
            return bool(endpoint) and version.isdigit() and name in names.versions(endpoint, int(version))
        case SERVICE.kind, "serve":
            return bool(endpoint) and name == names.service(endpoint)
        case ((PDB.kind | NETWORK_POLICY.kind | HPA.kind), "serve"):
            return bool(endpoint) and name == names.endpoint(endpoint)
        case _:
            return False


def _is_younger(endpoint: Manifest, manifest: Manifest) -> bool:
    """Whether an endpoint was made after an object of its name: that was of an earlier endpoint."""
    made = manifest["metadata"]["creationTimestamp"]
    return parse_timestamp(endpoint["metadata"]["creationTimestamp"]) > parse_timestamp(made)
