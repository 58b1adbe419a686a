"""What lies in an object store or on the hub, before it is a file of this machine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slipway_trainer.errors import NoSpace

PART = ".part"
"""How the name of what is not here in full ends."""


@dataclass(frozen=True)
class StoredObject:
    key: str
    size: int
    e_tag: str | None
    version: str
    """Differs when the content does: the entity tag, or the time of the last change where there is none."""

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.key}\n{self.size}\n{self.version}".encode()).hexdigest()[:24]


def credentials_field(field: str) -> str:
    """Returns the field that names the Secret for a field that holds a URI."""
    return f"{field.removesuffix('.uri')}.credentials" if field.endswith(".uri") else "model.credentials"


def check_room(folder: Path, found: Iterable[StoredObject], what: str) -> None:
    """Raises NoSpace when the folder has no room for what will be fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = sum(one.size for one in found), shutil.disk_usage(folder).free
    if needed > free:
        raise NoSpace(
            f"{folder}: {what} takes {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free. Free space there, or give "
            "the run a workspace on a larger disk"
        )
