"""The live version, brought here to be compared with: whole, and every byte of it the one that is live."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError
from slipway_core.resources import uris
from slipway_fetching import model_cache
from slipway_fetching.errors import NoRoom
from slipway_host.files import is_full
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.step.errors import BadArtifact
from slipway_trainer.step.requester import requester

FIELD: Final = "the endpoint's model.uri"


def folder_of(
    uri: str, digest: str, fetched: Path, *, say: Callable[[str], None], check: Callable[[], None] = lambda: None
) -> Path:
    """Returns the folder of a live version.

    Args:
        uri: where it lies.
        digest: of its files.
        fetched: where it is put when it lies in an object store or on the hub. Killed in between, it goes on.
        say: told what is fetched.
        check: called before the model appears, with the fence's right to stop it.

    Raises BadArtifact when it is not what is live; BadModel or BadConfig when it cannot be read here; a FetchError when
    it cannot be fetched; and OSError of the folder. After NoRoom, or of a full disk, it has as much room as before.
    """
    elsewhere = uris.parse(uri).remote
    folder = _fetch(uri, digest, fetched, say, check) if elsewhere else model_folder(uri, FIELD)
    try:
        _verify(folder, digest)
    except ArtifactError as error:
        raise BadArtifact(f"{FIELD}: {uri}: {error}") from None
    return folder


def _fetch(uri: str, digest: str, fetched: Path, say: Callable[[str], None], check: Callable[[], None]) -> Path:
    # By its digest, since another model may lie at the same URI by now.
    place = fetched / digest.removeprefix("sha256:")[:16]
    check()
    for other in fetched.glob("*"):
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    try:
        return model_cache.fetch(uri, requester(FIELD), place, say=say, check=check)
    except (NoRoom, OSError) as error:
        if isinstance(error, NoRoom) or is_full(error):
            # Other runs write to the same claim.
            shutil.rmtree(place, ignore_errors=True)
        raise


def _verify(folder: Path, digest: str) -> None:
    """Of a model without a manifest, which was accepted unjudged, the digest is that of its files."""
    if (folder / artifact.MANIFEST).exists():
        artifact.verify(folder, digest)
        return
    found = artifact.digest_of(artifact.hash_folder(folder))
    if found != digest:
        raise ArtifactError(f"what lies there has the digest {found}, and {digest} is live. Point the endpoint to it")
