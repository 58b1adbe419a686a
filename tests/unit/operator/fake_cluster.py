"""An API server in memory, as far as the reconcilers can tell; everything that it holds is in its World too.

It keeps resourceVersions, uids, generations and ownerReferences as the real one does, and every write in `writes`.
Controllers there are none: a test says what a Deployment, a Job or a pod has become with `put` and `set_status`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from slipway_core.resources.events import Event
from slipway_operator.cache.world import World
from slipway_operator.kube import kinds
from slipway_operator.kube.errors import AlreadyExists, ClusterError, Conflict, NotFound
from slipway_operator.kube.events import api_event
from slipway_operator.kube.kinds import EVENT, Kind
from slipway_operator.kube.manifest import Manifest, at, items, labels

OPERATORS = "slipway-system"
"""Namespace of the operator."""


class Write(NamedTuple):
    verb: str
    kind: str
    name: str


@dataclass
class FakeCluster:
    world: World = field(default_factory=World)
    clock: Callable[[], datetime] = lambda: datetime(2026, 1, 1, tzinfo=UTC)
    objects: dict[tuple[str, str, str], Manifest] = field(default_factory=dict[tuple[str, str, str], Manifest])
    writes: list[Write] = field(default_factory=list[Write])
    """Every write that was tried, in order."""
    failures: list[tuple[Write, ClusterError]] = field(default_factory=list[tuple[Write, ClusterError]])
    """The next write that matches ends with this error; nothing of it is done."""
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _uids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # ------------------------------------------------------------------------------------ what the operator calls

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return copy.deepcopy(self.objects.get((kind.kind, namespace, name)))

    async def list(
        self, kind: Kind, namespace: str | None = None, selector: str | None = None
    ) -> tuple[list[Manifest], str]:
        pairs = [pair.split("=", 1) for pair in selector.split(",")] if selector else []
        found = [
            copy.deepcopy(manifest)
            for (own, space, _), manifest in self.objects.items()
            if own == kind.kind
            and namespace in (None, space)
            and all(labels(manifest).get(label) == value for label, value in pairs)
        ]
        return found, str(next(self._versions))

    async def pages(
        self, kind: Kind, namespace: str | None = None, selector: str | None = None, fields: str | None = None
    ) -> AsyncIterator[tuple[list[Manifest], str]]:
        yield await self.list(kind, namespace, selector)

    async def warnings(self, namespace: str) -> list[Manifest]:
        return [event for event in self.all(EVENT) if at(event, "metadata").get("namespace") == namespace]

    async def create(self, manifest: Manifest) -> Manifest:
        key = self._try("create", manifest)
        if key in self.objects:
            raise AlreadyExists(f"{key[0]} {key[2]} already exists")
        return self._store(key, {name: value for name, value in manifest.items() if name != "status"})

    async def apply(self, manifest: Manifest) -> Manifest:
        key = self._try("apply", manifest)
        there = self.objects.get(key)
        meant = manifest["metadata"].get("uid")
        if meant not in (None, there["metadata"]["uid"] if there else None):
            raise Conflict(f"{key[0]} {key[2]}: uid mismatch: {meant} is not there")
        version = manifest["metadata"].get("resourceVersion")
        if there is not None and version not in (None, there["metadata"]["resourceVersion"]):
            raise Conflict(f"{key[0]} {key[2]}: the object has been modified")
        if there is None:
            return self._store(key, manifest)
        merged = _merge(there, {name: value for name, value in manifest.items() if name != "status"})
        return copy.deepcopy(there) if merged == there else self._store(key, merged)

    async def replace_status(self, manifest: Manifest) -> Manifest:
        key = self._try("update_status", manifest)
        there = self._current(key, manifest)
        changed = {**there, "status": copy.deepcopy(manifest.get("status", {}))}
        return copy.deepcopy(there) if changed == there else self._store(key, changed)

    async def replace(self, manifest: Manifest) -> Manifest:
        key = self._try("update", manifest)
        there = self._current(key, manifest)
        changed = {**copy.deepcopy(manifest), "status": there.get("status", {})}
        return copy.deepcopy(there) if changed == there else self._store(key, changed)

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        key = (kind.kind, namespace, name)
        self._attempt(Write("delete", kind.kind, name))
        there = self.objects.get(key)
        if there is None or uid not in (None, there["metadata"]["uid"]):
            return
        if resource_version not in (None, there["metadata"]["resourceVersion"]):
            raise Conflict(f"{key[0]} {name}: the object has been modified")
        self.remove(kind, namespace, name)

    async def record(self, involved: Manifest, event: Event) -> None:
        try:
            await self.create(api_event(involved, event, self.clock()))
        except AlreadyExists:
            return

    # ------------------------------------------------------------------------------- what a test says of the world

    def put(self, manifest: Manifest) -> Manifest:
        """Stores an object as somebody else than the operator would, its status included; counts as no write."""
        return self._store(_key(manifest), manifest)

    def set_status(self, kind: Kind, namespace: str, name: str, status: Manifest) -> Manifest:
        return self.put({**self.objects[kind.kind, namespace, name], "status": status})

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Takes an object away, and what it owns but the pods, which end by themselves."""
        gone = self.objects.pop((kind.kind, namespace, name))
        gone["metadata"]["resourceVersion"] = str(next(self._versions))
        self.world.remove(gone)
        for (own, space, child), manifest in list(self.objects.items()):
            owners = [owner.get("uid") for owner in items(manifest, "metadata", "ownerReferences")]
            if own != kinds.POD.kind and gone["metadata"]["uid"] in owners:
                self.remove(kinds.of(manifest), space, child)

    def all(self, kind: Kind) -> list[Manifest]:
        """What there is of a kind, but for the operator's own namespace, which no run and no endpoint is in."""
        return [
            copy.deepcopy(manifest)
            for (own, space, _), manifest in self.objects.items()
            if own == kind.kind and space != OPERATORS
        ]

    def one(self, kind: Kind, name: str, namespace: str = "default") -> Manifest:
        return copy.deepcopy(self.objects[kind.kind, namespace, name])

    def told(self) -> list[str]:
        """Reasons of all Events, in order."""
        return [str(event["reason"]) for event in self.all(EVENT)]

    def fail_next(self, verb: str, kind: Kind, error: ClusterError, name: str = "") -> None:
        """Has the next such write refused; of any object where no name is given."""
        self.failures.append((Write(verb, kind.kind, name), error))

    def written(self, verb: str, kind: Kind) -> list[str]:
        return [write.name for write in self.writes if write.verb == verb and write.kind == kind.kind]

    # ------------------------------------------------------------------------------------------------- inside

    def _try(self, verb: str, manifest: Manifest) -> tuple[str, str, str]:
        key = _key(manifest)
        self._attempt(Write(verb, key[0], key[2]))
        return key

    def _attempt(self, write: Write) -> None:
        self.writes.append(write)
        for index, (wanted, error) in enumerate(self.failures):
            if (wanted.verb, wanted.kind) == (write.verb, write.kind) and wanted.name in ("", write.name):
                del self.failures[index]
                raise error

    def _current(self, key: tuple[str, str, str], manifest: Manifest) -> Manifest:
        there = self.objects.get(key)
        if there is None:
            raise NotFound(f"{key[0]} {key[2]} not found")
        if manifest["metadata"].get("resourceVersion") not in (None, there["metadata"]["resourceVersion"]):
            raise Conflict(f"{key[0]} {key[2]}: the object has been modified")
        return there

    def _store(self, key: tuple[str, str, str], manifest: Manifest) -> Manifest:
        stored = copy.deepcopy(manifest)
        there = self.objects.get(key)
        metadata = {"namespace": key[1], **stored["metadata"]}
        metadata["uid"] = there["metadata"]["uid"] if there else metadata.get("uid", _uid(next(self._uids)))
        metadata.setdefault("creationTimestamp", self.clock().strftime("%Y-%m-%dT%H:%M:%SZ"))
        generation = there["metadata"]["generation"] if there else metadata.get("generation", 0)
        changed = there is None or there.get("spec") != stored.get("spec")
        metadata["generation"] = generation + 1 if changed and not (there is None and generation) else generation
        metadata["resourceVersion"] = str(next(self._versions))
        stored["metadata"] = metadata
        self.objects[key] = stored
        self.world.put(copy.deepcopy(stored))
        return copy.deepcopy(stored)


def _uid(number: int) -> str:
    """A folder is called after the first 8 digits of a run's uid."""
    return f"{number:08x}-7f0e-4f6e-9d56-0b6a1c7f3c11"


def _key(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", "default"), metadata["name"]


def _merge(there: Manifest, wanted: Manifest) -> Manifest:
    """Server-side apply for objects; a list of the manifest takes the place of the one that is there."""
    merged = copy.deepcopy(there)
    for name, value in wanted.items():
        here = merged.get(name)
        merged[name] = _merge(here, value) if isinstance(here, dict) and isinstance(value, dict) else value
    return merged
