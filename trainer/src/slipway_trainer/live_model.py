"""The live version, brought here to be compared with: whole, and every byte of it the one that is live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from slipway_core import artifact, uris
from slipway_core.artifact import ArtifactError
from slipway_trainer import object_store, sources, stored_model
from slipway_trainer.errors import BadArtifact

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

    Raises BadArtifact when it is not what is live; BadModel, BadConfig, NoSpace or FetchFailed when it cannot be read.
    """
    # By its digest, since another model may lie at the same URI by now.
    place = fetched / digest.removeprefix("sha256:")[:16]
    match uris.parse(uri).scheme:
        case scheme if scheme in object_store.SCHEMES:
            folder = stored_model.fetch(uri, FIELD, place, say=say, check=check)
        case "hf":
            folder = place
            sources.hub_model(uri, FIELD, folder)
        case _:
            folder = sources.model_folder(uri, FIELD)
    try:
        _verify(folder, digest)
    except ArtifactError as error:
        raise BadArtifact(str(error)) from None
    return folder


def _verify(folder: Path, digest: str) -> None:
    """Of a model without a manifest, which was accepted unjudged, the digest is that of its files."""
    if (folder / artifact.MANIFEST).exists() or not folder.is_dir():
        artifact.verify(folder, digest)
        return
    found = artifact.digest_of(artifact.hash_folder(folder))
    if found != digest:
        raise ArtifactError(f"{folder}: has the digest {found}, and {digest} is live")
