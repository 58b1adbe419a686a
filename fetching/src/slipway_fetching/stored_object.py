"""What lies in an object store or on the hub, before it is a file of this machine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slipway_fetching.errors import NoRoom
from slipway_fetching.requester import Requester

PART = ".part"
"""How the name of what is not here in full ends."""


@dataclass(frozen=True)
class StoredObject:
    key: str
    size: int
    e_tag: str | None
    version: str
    """Differs when the content does: the entity tag, or the time of the last change where there is none."""
    sha256: str | None = None
    """Of its content, where the store tells that."""

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.key}\n{self.size}\n{self.version}".encode()).hexdigest()[:24]


class Store(Protocol):
    def folder(self) -> Mapping[str, StoredObject]:
        """Returns all that lies below the URI, by its path there."""
        ...

    def lacking(self, wanted: Mapping[str, StoredObject], folder: Path) -> list[StoredObject]:
        """Returns what has to be fetched so that a folder has the objects of these names."""
        ...

    def bring(self, wanted: Mapping[str, StoredObject], folder: Path) -> None:
        """Puts objects into a folder by their names, each in full or not at all; those that are there stay."""
        ...


def fetch(
    store: Store,
    wanted: Mapping[str, StoredObject],
    folder: Path,
    *,
    disk: Path,
    what: str,
    uri: str,
    requester: Requester,
    say: Callable[[str], None],
) -> None:
    """Puts objects into a folder by their names. Raises NoRoom before it begins, and what the store raises.

    Args:
        disk: folder that must have room for them.
        what: they are, for the error.
        uri: of all of them, for `say`.
        say: told what is fetched.
    """
    left = store.lacking(wanted, folder)
    require_room(disk, sum(one.size for one in left) - _begun(folder), what, requester)
    if left:
        say(f"fetching {len(left)} file(s), {sum(one.size for one in left) / 1e6:.1f} MB, of {uri}")
    store.bring(wanted, folder)


def _begun(folder: Path) -> int:
    """Bytes of objects that an earlier call has begun to bring: they have their room already."""
    return sum(part.stat().st_size for part in folder.rglob(f"*{PART}"))


def require_room(folder: Path, needed: int, what: str, requester: Requester) -> None:
    """Raises NoRoom when a folder, which is made if it is not there, has fewer free bytes than needed."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NoRoom(
            f"{folder}: {what} takes {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free. {requester.more_room}"
        )
