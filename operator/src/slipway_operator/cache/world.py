"""The cache: what watches told, plus what our own calls returned, so that a pass sees what the pass before it wrote.

Of two versions the newer resourceVersion wins. Versions are compared as the numbers that they are: an operator has one
API server, and since Kubernetes 1.35 that is its promise as well. A deletion is remembered, so that a late event of an
older version does not bring the object back.

What is kept of a namespace is bounded (`room`). A run or an endpoint beyond that is set aside: its name is known, and
nothing else. Where what belongs to them is too much, the namespace is overfull, and no pass relies upon what is known
of it.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, cast

from slipway_operator import names
from slipway_operator.cache.cleanup_line import CleanupLine
from slipway_operator.cache.key import Key
from slipway_operator.cache.room import ASIDE, Aside, Limits, Rank, Room
from slipway_operator.cache.trim import trimmed
from slipway_operator.cache.waiting_line import WaitingLine
from slipway_operator.kube.kinds import CHILDREN, CONFIG_MAP, JOB, MODEL_ENDPOINT, OWN, TRAINING_RUN, Kind
from slipway_operator.kube.manifest import Manifest, at, condition, labels

TOO_MANY: Final = "TooMany"
"""The condition of what is set aside."""
_LISTED: Final = frozenset(kind.kind for kind in CHILDREN)
"""Kinds of which every list of everything tells how many there are."""
OWN_KEYS: Final[dict[str, Literal["TrainingRun", "ModelEndpoint"]]] = {
    TRAINING_RUN.kind: "TrainingRun",
    MODEL_ENDPOINT.kind: "ModelEndpoint",
}
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


class _Held(NamedTuple):
    manifest: Manifest
    weight: int


def _names() -> defaultdict[_Group, dict[str, None]]:
    return defaultdict(dict)


def _spaces() -> defaultdict[str, dict[str, dict[str, _Held]]]:
    return defaultdict(dict)


@dataclass
class World:
    limits: Limits = field(default_factory=Limits)
    waiting: WaitingLine = field(default_factory=WaitingLine)
    """Whom the API server refused something."""
    removals: CleanupLine = field(default_factory=CleanupLine)
    """Whose folder waits for a cleanup Job."""
    _kinds: defaultdict[str, dict[str, dict[str, _Held]]] = field(default_factory=_spaces)
    """By kind, namespace and name."""
    _rooms: dict[tuple[str, str], Room] = field(default_factory=dict[tuple[str, str], Room])
    """Of runs and of endpoints, by kind and namespace."""
    _aside: dict[tuple[str, str], dict[str, Aside]] = field(default_factory=dict[tuple[str, str], dict[str, Aside]])
    """What has no place in them."""
    _used: Counter[str] = field(default_factory=Counter[str])
    """Bytes of what belongs to the runs and endpoints of a namespace."""
    _overfull: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Kinds of which not all is known in a namespace."""
    _orphans: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    """Plans whose run is gone, by namespace."""
    _cleanups: dict[_Name, None] = field(default_factory=dict["_Name", None])
    """Jobs that remove folders."""
    _groups: defaultdict[_Group, dict[str, None]] = field(default_factory=_names)
    """Names of the objects of a group, in the order in which they came."""
    _marks: dict[_Group, int] = field(default_factory=dict[_Group, int])
    """Of groups of judgements: the number of the last change of one."""
    _changes: int = 0
    _deleted: OrderedDict[str, int] = field(default_factory=OrderedDict[str, int])
    """The resourceVersion at which the object of a uid was gone."""

    def put(self, manifest: Manifest) -> bool:
        """Takes a version of an object. Returns False when it holds that version, or a newer one, already."""
        version = version_of(manifest)
        name = _name(manifest)
        aside = self._aside.get((name.kind, name.namespace), {}).get(name.name)
        again = aside is not None and aside.version == version and self._room(name).has_place
        if version <= self._deleted.get(uid_of(manifest), -1) or (version <= self._version(name) and not again):
            return False
        kept, weight = trimmed(manifest)
        self._let_go(name)
        if name.kind not in OWN_KEYS:
            return self._keep_child(name, kept, weight)
        weight += _PER_BASE * len(bases_of(kept))
        rank = _rank(manifest)
        losers = self._room(name).take(rank, weight)
        if losers is None:
            self._set_aside(name, rank, kept)
            return not again
        for loser in losers:
            self._demote(_Name(name.kind, name.namespace, loser))
        self._hold(name, _Held(kept, weight))
        return True

    def remove(self, manifest: Manifest) -> None:
        """Takes the last version of an object that is gone."""
        self._remove(_name(manifest), uid_of(manifest), version_of(manifest))

    def sweep(self, kind: Kind, namespaces: Iterable[str] = ()) -> Sweep:
        """Begins a resync of a kind, page by page; of all namespaces where none is given."""
        return Sweep(self, kind, frozenset(namespaces))

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self._at(_Name(kind.kind, namespace, name))

    def weight(self, kind: Kind, namespace: str, name: str) -> int:
        """Returns the bytes that an object takes here, estimated; 0 for none."""
        held = self._kinds[kind.kind].get(namespace, {}).get(name)
        return held.weight if held is not None else 0

    def of_run(self, kind: Kind, namespace: str, uid: str) -> list[Manifest]:
        """Returns what has the label of a run's uid."""
        return self._of(_Group(kind.kind, namespace, names.RUN_UID, uid))

    def of_endpoint(self, kind: Kind, namespace: str, name: str) -> list[Manifest]:
        """Returns what has the label of an endpoint."""
        return self._of(_Group(kind.kind, namespace, names.ENDPOINT, names.label(name)))

    def runs_for(self, namespace: str, endpoint: str) -> list[Manifest]:
        """Returns the runs whose model an endpoint of this name is to serve."""
        return self._of(_Group(TRAINING_RUN.kind, namespace, _SERVING, endpoint))

    def starting_from(self, namespace: str, *bases: str) -> list[Manifest]:
        """Returns the runs that name one of these models: `run://NAME`, or `pvc://CLAIM/FOLDER/`."""
        found = [run for base in bases for run in self._of(_Group(TRAINING_RUN.kind, namespace, _BASE, base))]
        return list({uid_of(run): run for run in found}.values())

    def records(self, namespace: str, role: str) -> list[Manifest]:
        """Returns the ConfigMaps of a role: plan, verdict."""
        return self._of(_Group(CONFIG_MAP.kind, namespace, names.ROLE, role))

    def judgements(self, namespace: str, label: str) -> list[Manifest]:
        """Returns the ConfigMaps about a model, by the label that its digest makes."""
        return self._of(_Group(CONFIG_MAP.kind, namespace, names.DIGEST, label))

    def judged_for(self, namespace: str, label: str) -> list[Manifest]:
        """Returns the ConfigMaps of judgements for an endpoint, by the label that its name makes."""
        return self._of(_Group(CONFIG_MAP.kind, namespace, names.JUDGED_FOR, label))

    def mark(self, namespace: str, label: str, value: str) -> int:
        """Returns a number that is another one once a judgement with this label came, went or changed; 0 while there is
        none.

        Args:
            namespace: of the judgements.
            label: names.DIGEST or names.JUDGED_FOR.
            value: of the label.
        """
        return self._marks.get(_Group(CONFIG_MAP.kind, namespace, label, value), 0)

    def has_run(self, namespace: str, uid: str) -> bool:
        """Whether there is a run of this uid, set aside or not."""
        return _Group(TRAINING_RUN.kind, namespace, _UID, uid) in self._groups

    def run_called(self, namespace: str, label: str) -> str | None:
        """Returns the name of the run that a label names, which may have shortened it."""
        return self._named(TRAINING_RUN, namespace, _LABEL, label)

    def all(self, kind: Kind, namespace: str | None = None) -> list[Manifest]:
        spaces = self._kinds[kind.kind]
        if namespace is not None:
            return [held.manifest for held in spaces.get(namespace, {}).values()]
        return [held.manifest for space in spaces.values() for held in space.values()]

    def orphans(self, namespace: str, uid: str | None = None) -> list[Manifest]:
        """Returns the plans of a namespace whose run is gone: all of them, or that of one run."""
        orphans = self._orphans.get(namespace, {})
        if uid is not None:
            mine = self.of_run(CONFIG_MAP, namespace, uid)
            return [record for record in mine if record["metadata"]["name"] in orphans]
        space = self._kinds[CONFIG_MAP.kind].get(namespace, {})
        return [space[name].manifest for name in orphans]

    def orphaned(self) -> list[str]:
        """Returns the namespaces in which there is such a plan."""
        return list(self._orphans)

    def count_orphans(self) -> int:
        return sum(len(space) for space in self._orphans.values())

    def cleanups(self) -> list[Manifest]:
        """Returns the Jobs of all namespaces that remove folders, or have removed one."""
        return [job for name in self._cleanups if (job := self._at(name)) is not None]

    def aside(self, kind: Kind, namespace: str, name: str) -> Aside | None:
        """Returns what is known of a run or an endpoint that is beyond the limits of its namespace."""
        return self._aside.get((kind.kind, namespace), {}).get(name)

    def all_aside(self, kind: Kind, namespace: str | None = None) -> list[tuple[str, Aside]]:
        """Returns them with their namespaces."""
        spaces = [space for space in self._aside if space[0] == kind.kind and namespace in (None, space[1])]
        return [(space[1], one) for space in spaces for one in self._aside[space].values()]

    def next_in(self, kind: Kind, namespace: str) -> list[Key]:
        """Returns those that are set aside and would have a place by now, the oldest first."""
        space = self._aside.get((kind.kind, namespace))
        if not space or kind not in OWN:
            return []
        room = self._room(_Name(kind.kind, namespace, ""))
        free = room.places - len(room) if room.has_place else 0
        oldest = heapq.nsmallest(free, (one.rank for one in space.values()))
        return [Key(OWN_KEYS[kind.kind], namespace, rank.name) for rank in oldest]

    def overfull_namespaces(self) -> list[str]:
        return list(self._overfull)

    def overfull(self, namespace: str) -> list[str]:
        """Returns the kinds of which not all is known in a namespace, because somebody made too many."""
        return sorted(self._overfull.get(namespace, ()))

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
            # What a deleted run left is looked after under the run's uid.
            return Key("TrainingRun", namespace, run) if run else Key("Namespace", namespace, uid)
        if label := own.get(names.ENDPOINT):
            return Key("ModelEndpoint", namespace, self._named(MODEL_ENDPOINT, namespace, _LABEL, label) or label)
        return Key("Namespace", namespace, namespace) if own.get(names.MANAGED_BY) == names.MANAGED_BY_VALUE else None

    def _at(self, name: _Name) -> Manifest | None:
        held = self._kinds[name.kind].get(name.namespace, {}).get(name.name)
        return held.manifest if held is not None else None

    def _version(self, name: _Name) -> int:
        """Returns which version of an object is known, set aside or not; -1 for none."""
        held = self._at(name)
        aside = self._aside.get((name.kind, name.namespace), {}).get(name.name)
        return version_of(held) if held is not None else aside.version if aside is not None else -1

    def _of(self, group: _Group) -> list[Manifest]:
        if group not in self._groups:
            return []
        space = self._kinds[group.kind][group.namespace]
        return [space[name].manifest for name in self._groups[group]]

    def _named(self, kind: Kind, namespace: str, label: str, value: str) -> str | None:
        """Returns the whole name of a run or an endpoint, which its children's labels may have shortened."""
        return next(iter(self._groups.get(_Group(kind.kind, namespace, label, value), ())), None)

    def _remove(self, name: _Name, uid: str, version: int) -> bool:
        if uid:
            self._deleted[uid] = max(version, self._deleted.pop(uid, -1))
        if len(self._deleted) > _REMEMBERED:
            self._deleted.popitem(last=False)
        if not -1 < self._version(name) <= version:
            return False
        self._let_go(name)
        return True

    def _settle(self, kind: Kind, meant: Callable[[str], bool], beyond: Set[str]) -> None:
        """Takes from a list of everything in which namespaces there is more of a kind than is kept."""
        for namespace in [space for space in self._overfull if meant(space) and space not in beyond]:
            self._overfull[namespace].discard(kind.kind)
            if not self._overfull[namespace]:
                del self._overfull[namespace]

    # ------------------------------------------------------------------------------------------------- one object

    def _hold(self, name: _Name, held: _Held) -> None:
        self._kinds[name.kind].setdefault(name.namespace, {})[name.name] = held
        if name.kind == JOB.kind and labels(held.manifest).get(names.ROLE) == names.CLEANUP:
            self._cleanups[name] = None
        self._group(name, _groups(name, held.manifest))

    def _keep_child(self, name: _Name, kept: Manifest, weight: int) -> bool:
        if self._used[name.namespace] + weight > self.limits.memory // 2:
            if name.kind not in _LISTED:
                return False  # No list of everything would find that there is room again; who wants it applies it.
            kinds = self._overfull.setdefault(name.namespace, set())
            news = name.kind not in kinds
            kinds.add(name.kind)
            return news
        self._used[name.namespace] += weight
        self._hold(name, _Held(kept, weight))
        return True

    def _set_aside(self, name: _Name, rank: Rank, manifest: Manifest) -> None:
        space = self._aside.setdefault((name.kind, name.namespace), {})
        if len(space) >= ASIDE:
            return  # A list of everything finds it once there is room.
        told = condition(manifest, TOO_MANY) is not None
        space[name.name] = Aside(rank, version_of(manifest), told)
        self._group(name, _identity(name, rank.uid))

    def _demote(self, name: _Name) -> None:
        """Sets aside what has lost its place to an older one."""
        held = self._at(name)
        if held is not None:
            self._let_go(name)
            self._set_aside(name, _rank(held), held)

    def _let_go(self, name: _Name) -> None:
        """Forgets an object."""
        if (held := self._kinds[name.kind].get(name.namespace, {}).pop(name.name, None)) is not None:
            self._cleanups.pop(name, None)
            self._ungroup(name, _groups(name, held.manifest))
            if not self._kinds[name.kind][name.namespace]:
                del self._kinds[name.kind][name.namespace]
            self._make_room(name, held.weight)
        space = self._aside.get((name.kind, name.namespace), {})
        if (aside := space.pop(name.name, None)) is not None:
            self._ungroup(name, _identity(name, aside.rank.uid))
            if not space:
                del self._aside[name.kind, name.namespace]

    def _make_room(self, name: _Name, weight: int) -> None:
        if name.kind in OWN_KEYS:
            room = self._room(name)
            room.leave(name.name)
            if not room:
                del self._rooms[name.kind, name.namespace]
            return
        self._used[name.namespace] -= weight
        if not self._used[name.namespace]:
            del self._used[name.namespace]

    def _room(self, name: _Name) -> Room:
        places = self.limits.runs if name.kind == TRAINING_RUN.kind else self.limits.endpoints
        return self._rooms.setdefault((name.kind, name.namespace), Room(places, self.limits.memory // 4))

    def _group(self, name: _Name, groups: Iterable[_Group]) -> None:
        for group in groups:
            self._groups[group][name.name] = None
            self._mark(group)
            self._note_orphans(group)

    def _ungroup(self, name: _Name, groups: Iterable[_Group]) -> None:
        for group in groups:
            members = self._groups[group]
            members.pop(name.name, None)
            self._mark(group)
            if not members:
                del self._groups[group]
                self._marks.pop(group, None)
            self._note_orphans(group)
        if name.kind == CONFIG_MAP.kind:
            self._note_orphan(name, False)

    def _mark(self, group: _Group) -> None:
        if group.kind == CONFIG_MAP.kind and group.label in (names.DIGEST, names.JUDGED_FOR):
            self._changes += 1
            self._marks[group] = self._changes

    def _note_orphans(self, group: _Group) -> None:
        """Looks at the plans of a run again, where that run or one of them came or went."""
        if (group.kind, group.label) not in ((TRAINING_RUN.kind, _UID), (CONFIG_MAP.kind, names.RUN_UID)):
            return
        run = _Group(TRAINING_RUN.kind, group.namespace, _UID, group.value)
        records = _Group(CONFIG_MAP.kind, group.namespace, names.RUN_UID, group.value)
        for record in self._of(records):
            if labels(record).get(names.ROLE) == "plan":
                self._note_orphan(_name(record), run not in self._groups)

    def _note_orphan(self, name: _Name, is_one: bool) -> None:
        space = self._orphans.setdefault(name.namespace, {})
        if is_one:
            space[name.name] = None
        else:
            space.pop(name.name, None)
        if not space:
            del self._orphans[name.namespace]


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
    """What the world keeps of what was seen."""
    _beyond: set[str] = field(default_factory=set[str])
    """Namespaces that have more of this kind than is kept."""
    _owners: dict[Key, None] = field(default_factory=dict[Key, None])

    def see(self, manifests: Iterable[Manifest]) -> None:
        """Takes a page of the list."""
        for manifest in manifests:
            name = _name(manifest)
            news = self.world.put(manifest)
            if self.world._version(name) < 0:  # pyright: ignore[reportPrivateUsage]
                self._beyond.add(name.namespace)
                continue
            self._seen.add((name.namespace, name.name))
            if news:
                self._changed(manifest)

    def finish(self, resource_version: str) -> list[Key]:
        """Removes what the list has not, unless it is newer than the list. Returns the owners of what changed."""
        version = int(resource_version or 0)
        for manifest in self.world.all(self.kind):
            name = _name(manifest)
            if not self._is_listed(name) or version_of(manifest) > version:
                continue
            if self.world._remove(name, uid_of(manifest), version):  # pyright: ignore[reportPrivateUsage]
                self._changed(manifest)
        for namespace, one in self.world.all_aside(self.kind):
            name = _Name(self.kind.kind, namespace, one.rank.name)
            if self._is_listed(name) and one.version <= version:
                self.world._remove(name, one.rank.uid, version)  # pyright: ignore[reportPrivateUsage]
        self.world._settle(self.kind, self._is_meant, self._beyond)  # pyright: ignore[reportPrivateUsage]
        return list(self._owners)

    def _is_meant(self, namespace: str) -> bool:
        return not self.namespaces or namespace in self.namespaces

    def _is_listed(self, name: _Name) -> bool:
        """Whether it would have been seen if it were there, and was not."""
        return self._is_meant(name.namespace) and (name.namespace, name.name) not in self._seen

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
_BASE: Final = "base"
_PER_BASE: Final = 300
"""Bytes of an entry in the index of the models that runs start from."""
_MODEL: Final = re.compile(r"run://[^/@]+|pvc://[^/]+/[^/]+/")


def _name(manifest: Manifest) -> _Name:
    metadata = at(manifest, "metadata")
    return _Name(manifest["kind"], metadata.get("namespace", ""), metadata["name"])


def _identity(name: _Name, uid: str) -> Iterable[_Group]:
    """By what a run or an endpoint is found of which no more than the name is known."""
    yield _Group(name.kind, name.namespace, _UID, uid)
    yield _Group(name.kind, name.namespace, _LABEL, names.label(name.name))


def bases_of(run: Manifest) -> frozenset[str]:
    """Returns what a run's spec names that another run may have made: `run://NAME`, or `pvc://CLAIM/FOLDER/`."""
    found: set[str] = set()
    left: list[Any] = [at(run, "spec")]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += cast(Manifest, value).values()
        elif isinstance(value, list):
            left += cast(list[Any], value)
        elif isinstance(value, str) and (model := _MODEL.match(value)):
            found.add(model[0])
    return frozenset(found)


def _rank(manifest: Manifest) -> Rank:
    metadata = at(manifest, "metadata")
    return Rank(str(metadata.get("creationTimestamp", "")), metadata["name"], uid_of(manifest))


def _groups(name: _Name, manifest: Manifest) -> Iterable[_Group]:
    own = labels(manifest)
    for label in (names.RUN_UID, names.ENDPOINT):
        if label in own:
            yield _Group(name.kind, name.namespace, label, own[label])
    if name.kind in OWN_KEYS:
        yield from _identity(name, uid_of(manifest))
    if name.kind == CONFIG_MAP.kind and (role := own.get(names.ROLE)):
        yield _Group(name.kind, name.namespace, names.ROLE, role)
    for label in (names.DIGEST, names.JUDGED_FOR) if name.kind == CONFIG_MAP.kind else ():
        if value := own.get(label):
            yield _Group(name.kind, name.namespace, label, value)
    if name.kind == TRAINING_RUN.kind:
        for base in bases_of(manifest):
            yield _Group(name.kind, name.namespace, _BASE, base)
    if name.kind == TRAINING_RUN.kind and (endpoint := at(manifest, "spec", "serving").get("endpoint")):
        yield _Group(name.kind, name.namespace, _SERVING, str(endpoint))
