"""Objects that an owner has once, and as it says: made when absent, changed when they differ, left alone otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from slipway_operator.cache.world import World
from slipway_operator.kube import kinds
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import Conflict
from slipway_operator.kube.kinds import CHILDREN, Kind
from slipway_operator.kube.manifest import Manifest, items

_RELOOK = timedelta(minutes=10)
"""Between two reads of an object that no watch tells of."""


class TakenError(Exception):
    """An object of that name is somebody else's; the message names it and the fix."""


@dataclass
class OwnedObjects:
    cluster: Cluster
    world: World
    clock: Callable[[], datetime]
    _read: dict[tuple[str, str, str], datetime] = field(default_factory=dict[tuple[str, str, str], datetime])
    """When an object of a kind that is not watched was read last."""

    async def ensure(self, manifest: Manifest) -> None:
        """Has the object there with every field that the manifest gives.

        Raises TakenError for one that belongs to nobody of ours, Conflict for one whose owner is being deleted, and
        ClusterError.
        """
        # The cache has only what has our labels: an object of somebody else has to be looked for.
        there = await self.find(manifest) or await self.cluster.get(*_address(manifest))
        if there is not None:
            try:
                check_owner(there, manifest)
            except (TakenError, Conflict):
                self._read.pop(_key(there), None)  # No watch may tell that it is gone.
                raise
        if there is None or not _is_as_wanted(there, manifest):
            # Applied also when it is made: of what was created, an apply takes nothing away again, such as a port.
            there = await self.cluster.apply(manifest)
        self._keep(there)

    async def remove(self, manifest: Manifest) -> None:
        """Has no such object of this owner there."""
        there = await self.find(manifest)
        if there is None or not has_owner_of(there, manifest):
            return
        kind, namespace, name = _address(manifest)
        await self.cluster.delete(kind, namespace, name, uid=there["metadata"].get("uid"))
        self.world.remove(there)

    async def find(self, manifest: Manifest) -> Manifest | None:
        """Returns the object as it is, read from the cluster where no watch tells of its kind."""
        kind, namespace, name = _address(manifest)
        if kind in CHILDREN:
            return self.world.get(kind, namespace, name)
        key, now = _key(manifest), self.clock()
        last = self._read.get(key)
        if last is None or now - last >= _RELOOK:
            found = await self.cluster.get(kind, namespace, name)
            held = self.world.get(kind, namespace, name)
            if found is not None:
                self._keep(found)
            elif held is not None:
                self.world.remove(held)
            self._read[key] = now
        return self.world.get(kind, namespace, name)

    def forget(self, namespace: str, name: str) -> None:
        """Lets go of what is not watched of an owner that is gone: its objects are called like it."""
        for key in [key for key in self._read if key[1:] == (namespace, name)]:
            del self._read[key]
            kind = next(kind for kind in kinds.ALL if kind.kind == key[0])
            if (held := self.world.get(kind, namespace, name)) is not None:
                self.world.remove(held)

    def _keep(self, manifest: Manifest) -> None:
        self.world.put(manifest)
        self._read[_key(manifest)] = self.clock()


def _is_as_wanted(there: Manifest, wanted: Manifest) -> bool:
    """Whether an object needs no apply. Of a NetworkPolicy each field that it has and should not lets somebody else in,
    and an empty selector means everybody; the API server fills in nothing there."""
    exact = wanted["kind"] != kinds.NETWORK_POLICY.kind or there.get("spec") == wanted["spec"]
    return exact and holds(there, wanted)


def holds(there: Any, wanted: Any) -> bool:
    """Returns whether an object has every field of a manifest; what the API server filled in does not count. Pure."""
    if isinstance(wanted, dict):
        own = cast(Manifest, there) if isinstance(there, dict) else None
        return own is not None and all(
            name in own and holds(own[name], value) for name, value in cast(Manifest, wanted).items()
        )
    if isinstance(wanted, list):
        listed, asked = cast(list[Any], there), cast(list[Any], wanted)
        same = isinstance(there, list) and len(listed) == len(asked)
        return same and all(holds(one, other) for one, other in zip(listed, asked, strict=True))
    return there == wanted


def check_owner(there: Manifest, wanted: Manifest) -> None:
    """Raises TakenError or Conflict when an object is not of the owner that a manifest names."""
    if has_owner_of(there, wanted):
        return
    kind, name = there["kind"], there["metadata"]["name"]
    owner = items(wanted, "metadata", "ownerReferences")[0]
    for other in items(there, "metadata", "ownerReferences"):
        if (other.get("kind"), other.get("name")) == (owner["kind"], owner["name"]):
            raise Conflict(f"{kind} {name} is of the {owner['kind']} {owner['name']} that was deleted; it is going")
    raise TakenError(
        f"there is a {kind} {name} that is not of the {owner['kind']} {owner['name']}, which needs that name; delete "
        f"that {kind}, or create the {owner['kind']} under another name"
    )


def has_owner_of(there: Manifest, wanted: Manifest) -> bool:
    """Returns whether an object is of the owner that a manifest names."""
    uids = {owner.get("uid") for owner in items(wanted, "metadata", "ownerReferences")}
    return any(owner.get("uid") in uids for owner in items(there, "metadata", "ownerReferences"))


def _key(manifest: Manifest) -> tuple[str, str, str]:
    return manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def _address(manifest: Manifest) -> tuple[Kind, str, str]:
    return kinds.of(manifest), manifest["metadata"]["namespace"], manifest["metadata"]["name"]
