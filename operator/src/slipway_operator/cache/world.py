"""The cache: what watches told, plus what our own calls returned, so that a pass sees what the pass before it wrote.

Of two versions the newer resourceVersion wins. Versions are compared as the numbers that they are: an operator has one
API server, and since Kubernetes 1.35 that is its promise as well. A deletion is remembered, so that a late event of an
older version does not bring the object back.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.cache.trim import trimmed
from slipway_operator.kube.kinds import MODEL_ENDPOINT, OWN, TRAINING_RUN, Kind
from slipway_operator.kube.manifest import Manifest, at, labels

_REMEMBERED: Final = 20_000
"""Deletions that are remembered: more than there are events on their way at any time."""


class _Name(NamedTuple):
    kind: str
    namespace: str
    name: str


class _Group(NamedTuple):
    """What some objects of one kind and namespace have in common: the value of a label."""

    kind: str
    namespace: str
    label: str
    value: str


def _names() -> defaultdict[_Group, dict[str, None]]:
    return defaultdict(dict)


def _spaces() -> defaultdict[str, dict[str, dict[str, Manifest]]]:
    return defaultdict(dict)


@dataclass
class World:
    _kinds: defaultdict[str, dict[str, dict[str, Manifest]]] = field(default_factory=_spaces)
    """By kind, namespace and name."""
    _groups: defaultdict[_Group, dict[str, None]] = field(default_factory=_names)
    """Names of the objects of a group, in the order in which they came."""
    _deleted: OrderedDict[str, int] = field(default_factory=OrderedDict[str, int])
    """The resourceVersion at which the object of a uid was gone."""

    def put(self, manifest: Manifest) -> bool:
        """Takes a version of an object. Returns False when it holds that version, or a newer one, already."""
        version = version_of(manifest)
        name = _name(manifest)
        if version <= self._deleted.get(uid_of(manifest), -1):
            return False
        held = self._at(name)
        if held is not None:
            if version <= version_of(held):
                return False
            self._ungroup(name, held)
        kept = trimmed(manifest)
        self._kinds[name.kind].setdefault(name.namespace, {})[name.name] = kept
        for group in _groups(name, kept):
            self._groups[group][name.name] = None
        return True

    def remove(self, manifest: Manifest) -> None:
        """Takes the last version of an object that is gone."""
        self._remove(_name(manifest), uid_of(manifest), version_of(manifest))

    def sweep(self, kind: Kind, namespaces: Iterable[str] = ()) -> Sweep:
        """Begins a resync of a kind, page by page; of all namespaces where none is given."""
        return Sweep(self, kind, frozenset(namespaces))

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self._at(_Name(kind.kind, namespace, name))

    def of_run(self, kind: Kind, namespace: str, uid: str) -> list[Manifest]:
        """Returns what has the label of a run's uid."""
        return self._of(_Group(kind.kind, namespace, names.RUN_UID, uid))

    def of_endpoint(self, kind: Kind, namespace: str, name: str) -> list[Manifest]:
        """Returns what has the label of an endpoint."""
        return self._of(_Group(kind.kind, namespace, names.ENDPOINT, names.label(name)))

    def runs_for(self, namespace: str, endpoint: str) -> list[Manifest]:
        """Returns the runs whose model an endpoint of this name is to serve."""
        return self._of(_Group(TRAINING_RUN.kind, namespace, _SERVING, endpoint))

    def all(self, kind: Kind, namespace: str | None = None) -> list[Manifest]:
        spaces = self._kinds[kind.kind]
        if namespace is not None:
            return list(spaces.get(namespace, {}).values())
        return [manifest for space in spaces.values() for manifest in space.values()]

    def count(self, kind: Kind) -> int:
        return sum(len(space) for space in self._kinds[kind.kind].values())

    def owner(self, manifest: Manifest) -> Key | None:
        """Returns whose pass looks at an object; None when nobody's does."""
        kind, namespace, name = _name(manifest)
        own = labels(manifest)
        if kind == TRAINING_RUN.kind:
            return Key("TrainingRun", namespace, name)
        if kind == MODEL_ENDPOINT.kind:
            return Key("ModelEndpoint", namespace, name)
        if uid := own.get(names.RUN_UID):
            run = self._named(TRAINING_RUN, namespace, _UID, uid)
            # What a deleted run left is looked after together.
            return Key("TrainingRun", namespace, run) if run else Key("Namespace", namespace, namespace)
        if label := own.get(names.ENDPOINT):
            return Key("ModelEndpoint", namespace, self._named(MODEL_ENDPOINT, namespace, _LABEL, label) or label)
        return Key("Namespace", namespace, namespace) if own.get(names.MANAGED_BY) == names.MANAGED_BY_VALUE else None

    def _at(self, name: _Name) -> Manifest | None:
        return self._kinds[name.kind].get(name.namespace, {}).get(name.name)

    def _of(self, group: _Group) -> list[Manifest]:
        if group not in self._groups:
            return []
        space = self._kinds[group.kind][group.namespace]
        return [space[name] for name in self._groups[group]]

    def _named(self, kind: Kind, namespace: str, label: str, value: str) -> str | None:
        """Returns the whole name of a run or an endpoint, which its children's labels may have shortened."""
        return next(iter(self._groups.get(_Group(kind.kind, namespace, label, value), ())), None)

    def _remove(self, name: _Name, uid: str, version: int) -> bool:
        if uid:
            self._deleted[uid] = max(version, self._deleted.pop(uid, -1))
        if len(self._deleted) > _REMEMBERED:
            self._deleted.popitem(last=False)
        held = self._at(name)
        if held is None or version_of(held) > version:
            return False
        self._ungroup(name, held)
        space = self._kinds[name.kind][name.namespace]
        del space[name.name]
        if not space:
            del self._kinds[name.kind][name.namespace]
        return True

    def _ungroup(self, name: _Name, held: Manifest) -> None:
        for group in _groups(name, held):
            members = self._groups[group]
            members.pop(name.name, None)
            if not members:
                del self._groups[group]


@dataclass
class Sweep:
    """One resync of one kind: sees every object that there is, then lets go of the others."""

    world: World
    kind: Kind
    namespaces: frozenset[str]
    """Those that are listed; empty for all."""
    missed: int = 0
    """Objects whose newest version no watch had told."""
    _seen: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _owners: dict[Key, None] = field(default_factory=dict[Key, None])

    def see(self, manifests: Iterable[Manifest]) -> None:
        """Takes a page of the list."""
        for manifest in manifests:
            metadata = at(manifest, "metadata")
            self._seen.add((metadata.get("namespace", ""), metadata["name"]))
            if self.world.put(manifest):
                self._changed(manifest)

    def finish(self, resource_version: str) -> list[Key]:
        """Removes what the list has not, unless it is newer than the list. Returns the owners of what changed."""
        version = int(resource_version or 0)
        for manifest in self.world.all(self.kind):
            name = _name(manifest)
            listed = not self.namespaces or name.namespace in self.namespaces
            if not listed or (name.namespace, name.name) in self._seen or version_of(manifest) > version:
                continue
            if self.world._remove(name, uid_of(manifest), version):  # pyright: ignore[reportPrivateUsage]
                self._changed(manifest)
        return list(self._owners)

    def _changed(self, manifest: Manifest) -> None:
        self.missed += 1
        owner = self.world.owner(manifest)
        if owner is not None:
            self._owners[owner] = None


def version_of(manifest: Manifest) -> int:
    """Returns the resourceVersion as a number; 0 for none."""
    return int(at(manifest, "metadata").get("resourceVersion") or 0)


def uid_of(manifest: Manifest) -> str:
    return str(at(manifest, "metadata").get("uid") or "")


_UID: Final = "uid"
_LABEL: Final = "label"
_SERVING: Final = "serving"


def _name(manifest: Manifest) -> _Name:
    metadata = at(manifest, "metadata")
    return _Name(manifest["kind"], metadata.get("namespace", ""), metadata["name"])


def _groups(name: _Name, manifest: Manifest) -> Iterable[_Group]:
    own = labels(manifest)
    for label in (names.RUN_UID, names.ENDPOINT):
        if label in own:
            yield _Group(name.kind, name.namespace, label, own[label])
    if name.kind in [kind.kind for kind in OWN]:
        yield _Group(name.kind, name.namespace, _UID, uid_of(manifest))
        yield _Group(name.kind, name.namespace, _LABEL, names.label(name.name))
    if name.kind == TRAINING_RUN.kind and (endpoint := at(manifest, "spec", "serving").get("endpoint")):
        yield _Group(name.kind, name.namespace, _SERVING, str(endpoint))
