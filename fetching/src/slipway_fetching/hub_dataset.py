"""A dataset of the hub at one commit for all attempts of a run: its files whole in a folder, or one at a time."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from slipway_core.protocol import variables
from slipway_core.resources import uris
from slipway_fetching import stored_object
from slipway_fetching.errors import NothingThere, Refused, Unavailable
from slipway_fetching.hub import HubRepository
from slipway_fetching.requester import Requester
from slipway_fetching.stored_object import StoredObject
from slipway_host.files import write_atomically

_STREAMED = "streamed"


class HubDataset:
    """Its files by their names, as a hub lists them, or the hub's cache where none answers.

    A branch is resolved once: the commit is written down before anything of it is fetched, and asked for from then on.
    """

    def __init__(
        self, uri: uris.Uri, requester: Requester, data: Path, commits: Path, *, revision: str | None = None
    ) -> None:
        """
        Args:
            data: folder for what is fetched; a later attempt goes on with what is there.
            commits: folder in which the commit of every dataset of the run is kept.
            revision: another one than that of the URI.

        Raises NothingThere for an empty repository, Refused for one whose files are called as no file may be, and what
        a hub raises: Misconfigured, or Unavailable.
        """
        # So that an error names it.
        self.uri = uri = replace(uri, revision=revision or uri.revision)
        self.requester, self._data = requester, data
        self._digests: dict[str, str] = {}
        key = hashlib.sha256(f"{uri.repository}@{uri.revision or ''}".encode()).hexdigest()[:16]
        self._pin = commits / f"{key}.commit"
        # A pod's own cache goes with it.
        cache = data / "hub" if variables.CLAIMS_VARIABLE in os.environ else None
        pinned = self._pin.read_text(encoding="utf-8") if self._pin.exists() else None
        self._store = HubRepository(uri, requester, cache, "dataset", pinned)
        self.files: Mapping[str, StoredObject] = self._store.folder()
        if not self.files:
            raise NothingThere(f"{requester.named(uri)}: there is nothing. Check the name, and what lies there")
        for name in self.files:
            if {"", ".", ".."} & set(name.split("/")) or PurePosixPath(name).is_absolute():
                raise Refused(f"{requester.named(uri)}: has a file called {name!r}, which is no name of one")
        self._write_down()
        self._folder = data / f"{key}-{self.commit[:12] or 'cached'}"

    @property
    def commit(self) -> str:
        """Empty while no hub has answered and nothing was found in its cache yet."""
        return self._store.commit

    @property
    def offline(self) -> bool:
        return self._store.offline

    def bring(self, names: Iterable[str], say: Callable[[str], None] = lambda _: None) -> Path:
        """Returns a folder that has these files, each in full. Raises NoRoom, or what a hub raises."""
        wanted = {name: self.files[name] for name in names}
        stored_object.fetch(
            self._store,
            wanted,
            self._folder,
            disk=self._data,
            what=f"the data of {self.requester.field}",
            uri=str(self.uri),
            requester=self.requester,
            say=say,
        )
        self._write_down()
        return self._folder

    @contextmanager
    def streamed(self, name: str) -> Generator[Path]:
        """Has one file on the disk for as long as it is read. It is the same each time, byte for byte.

        Raises NoRoom, or what a hub raises; Unavailable also for bytes that are not those that the hub has listed.
        """
        file = self.files[name]
        place = self._data / _STREAMED
        stored_object.require_room(place, file.size, f"{self.uri}/{name}", self.requester)
        with tempfile.TemporaryDirectory(dir=place) as folder:
            path = self._store.bring_alone(name, Path(folder))
            found = _sha256(path)
            # Of a small file the hub lists no digest of its content: that of the first time counts.
            if self._digests.setdefault(name, file.sha256 or found) != found:
                raise Unavailable(
                    f"{self.requester.named(self.uri)}: {name} came otherwise than the hub lists it; it is fetched "
                    "again"
                )
            yield path

    def sha256(self, name: str) -> str:
        """Returns the digest of a file, as the hub lists it; of one whose digest it does not list, after reading it."""
        listed = self.files[name].sha256
        if listed is None and name not in self._digests:
            with self.streamed(name):
                pass
        return listed or self._digests[name]

    def _write_down(self) -> None:
        if self.commit and not self._pin.exists():
            self._pin.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._pin, self.commit)


def clear_streamed(data: Path) -> None:
    """Removes what an attempt that was killed has left of files that it read one at a time."""
    shutil.rmtree(data / _STREAMED, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
