"""A model where it lies: which of the files there are the model, and whether what was brought here is it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import RESTORE, ArtifactError, Manifest
from slipway_core.resources import uris
from slipway_fetching import conversion, stored_object
from slipway_fetching.errors import NothingThere, Refused
from slipway_fetching.hub import HubRepository
from slipway_fetching.requester import Requester
from slipway_fetching.stored_object import PART, Store, StoredObject


class StoredModel:
    """The folder of a URI as its store lists it. Errors name the URI: NothingThere, Refused, or those of the store."""

    def __init__(self, store: Store, uri: str, requester: Requester) -> None:
        self.store, self.uri, self.requester = store, uri, requester
        self.offered: Mapping[str, StoredObject] = store.folder()
        if not self.offered:
            raise NothingThere(f"{self._named}: there is nothing. Check the name, and what lies there")

    @property
    def state(self) -> str:
        """Differs when something that lies there does, so that a name with it never holds two versions."""
        text = "".join(f"{one.fingerprint}\n" for one in self.offered.values())
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def manifest(self, folder: Path, *, reserved: str | None = None) -> Manifest | None:
        """Brings the manifest into a folder and returns it; None when there is none.

        Args:
            reserved: an entry of the folder that no manifest may name.

        Raises Refused for one that is damaged, or that names what is not there or may not be fetched.
        """
        if artifact.MANIFEST not in self.offered:
            return None
        self.store.bring({artifact.MANIFEST: self.offered[artifact.MANIFEST]}, folder)
        try:
            manifest = artifact.read(folder)
            for name in manifest.files:
                artifact.check_name(name, reserved=reserved)
        except ArtifactError as error:
            raise Refused(f"{self._named}: {error}") from None
        missing = next((name for name in manifest.files if name not in self.offered), None)
        if missing is not None:
            raise Refused(f"{self._named}: the manifest names {missing} and it is missing. {RESTORE}")
        return manifest

    def names(self, manifest: Manifest | None) -> list[str]:
        """Returns the files that the manifest names; without one, those that a model is loaded from.

        Of the top folder alone: subfolders hold other formats and checkpoints of the same model.
        """
        if manifest is not None:
            return sorted(manifest.files)
        return sorted(
            name
            for name in self.offered
            if "/" not in name and any(fnmatch(name, pattern) for pattern in artifact.MODEL_FILES)
        )

    def require_weights(self, names: Iterable[str]) -> None:
        if any(is_weight(name) for name in names):
            return
        other = sorted(name for name in self.offered if name.endswith(artifact.PICKLE_SUFFIXES))
        parsed = uris.parse(self.uri)
        source = parsed.repository if parsed.scheme == "hf" else "COPY"
        raise Refused(
            f"{self._named}: holds no *.safetensors{f' but {other[0]}' if other else ''}. Other formats can run code "
            "when they are loaded: take a revision with safetensors, or convert it if you trust it "
            f"({conversion.command(source)}), and name the folder that this makes"
        )

    def bring(self, names: Iterable[str], folder: Path, *, disk: Path, what: str, say: Callable[[str], None]) -> None:
        """Brings files into a folder that is theirs alone; killed in between, another call goes on.

        Args:
            disk: folder that must have room for them.
            what: they are, for the error.
            say: told what is fetched.
        """
        wanted = {name: self.offered[name] for name in names}
        stored_object.fetch(
            self.store, wanted, folder, disk=disk, what=what, uri=self.uri, requester=self.requester, say=say
        )
        for rest in folder.rglob(f"*{PART}"):
            rest.unlink()
        if isinstance(self.store, HubRepository) and self.store.offline:
            say(f"no hub answers: {self.uri} is as it was when it was fetched last, at {self.store.commit}")

    def verify(self, manifest: Manifest, names: Iterable[str], folder: Path, *, again: str) -> None:
        """Raises Refused when a file in the folder is not what the manifest says.

        Args:
            again: what brings the right one, as a sentence without its full stop.
        """
        for name in names:
            found, said = artifact.hash_file(folder / name), manifest.files[name]
            if found != said:
                raise Refused(
                    f"{self._named}: {name} is not what the manifest says: {found.size} bytes with sha256 "
                    f"{found.sha256[:12]}…, not {said.size} with {said.sha256[:12]}…. {again}"
                )
        if artifact.digest_of(manifest.files) != manifest.digest:
            raise Refused(f"{self._named}: the digest of its manifest is not that of its files. {RESTORE}")

    @property
    def _named(self) -> str:
        return self.requester.named(self.uri)


def is_weight(name: str) -> bool:
    return name.endswith(artifact.WEIGHT_SUFFIXES)
