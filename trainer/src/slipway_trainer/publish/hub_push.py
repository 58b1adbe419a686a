"""A model that passed, in a repository of the hub: one commit for one digest."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_core.protocol.judged import Judged
from slipway_core.resources import uris
from slipway_core.resources.training_run import Push
from slipway_trainer.card import model_card, public_manifest
from slipway_trainer.step.errors import BadArtifact, PublishFailed, PublishRefused

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
"""Files that an earlier model left there and that a later one would be loaded with."""


def push(wanted: Push, folder: Path, judged: Judged) -> str:
    """Pushes an artifact and returns the address of its commit. What is there already is not pushed again, and what
    else is there (a card in somebody's own words, other files) stays, but weights that are not of this model go, and
    so does what an earlier push brought and this model has not: a template or an adapter's configuration of another
    model would be loaded with it.
    Of the folder nothing is sent that its digest does not cover: the card is written anew, with the verdict, and the
    manifest without the places of this machine (`public_manifest`).

    Args:
        wanted: where to.
        folder: of the artifact.
        judged: its verdict by the run's record, which names the digest that it must have.

    Raises PublishRefused when the hub or the repository does not take it, PublishFailed when it may be otherwise at
    another time, and BadArtifact when the folder holds another model.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

    # Its own protocol for large files asks other hosts, and holds gigabytes in memory.
    constants.HF_HUB_DISABLE_XET = True
    try:
        manifest = artifact.verify(folder, judged.artifact_digest)
    except ArtifactError as error:
        raise BadArtifact(str(error)) from None
    repository, hub = uris.parse(wanted.uri).repository, HfApi()
    with _in_our_words(wanted.uri):
        hub.create_repo(repository, private=wanted.private, exist_ok=True)
        info = hub.model_info(repository)
        if wanted.private and info.private is False:
            raise PublishRefused(
                f"export.push.uri: {wanted.uri} is a repository that everybody sees, and export.push.private is true: "
                "make the repository private, name another one, or set private: false"
            )
        additions = [CommitOperationAdd(name, folder / name) for name in manifest.files]
        for one in additions:
            _check(one, manifest, folder)
        told = artifact.dump(public_manifest.public(manifest))
        additions.append(CommitOperationAdd(artifact.MANIFEST, told.encode()))
        there = {sibling.rfilename for sibling in info.siblings or []}
        stale = [CommitOperationDelete(name) for name in _stale(hub, repository, manifest, there)]
        if card := _card(hub, repository, manifest, judged, there):
            additions.append(CommitOperationAdd(artifact.CARD, card.encode()))
        commit = hub.create_commit(
            repository,
            [*additions, *stale],
            commit_message=f"{manifest.run}: {manifest.digest}",
            commit_description=f"Slipway run {manifest.run}\nmodel {manifest.digest}\nplan {manifest.plan_digest}",
        )
    return str(commit.commit_url)


def _card(hub: Any, repository: str, manifest: Manifest, judged: Judged, there: set[str]) -> str | None:
    """Returns the card to send; None where there is nothing to say, or where somebody has written one there."""
    card = None if artifact.CARD in manifest.files else model_card.render(manifest, judged)
    if card is None or artifact.CARD not in there:
        return card
    with tempfile.TemporaryDirectory() as folder:
        held = Path(hub.hf_hub_download(repository, artifact.CARD, local_dir=folder))
        return card if model_card.MARK.encode() in held.read_bytes() else None


def _stale(hub: Any, repository: str, manifest: Manifest, there: set[str]) -> list[str]:
    """Returns what an earlier model left in a repository and this one has not, sorted."""
    brought = _brought(hub, repository) if artifact.MANIFEST in there else set[str]()
    kept = {*manifest.files, artifact.MANIFEST, artifact.CARD}
    return sorted(name for name in there - kept if name in brought or _is_weight(name))


def _brought(hub: Any, repository: str) -> set[str]:
    """Returns the files that the manifest in a repository names; none where it is somebody else's."""
    with tempfile.TemporaryDirectory() as folder:
        hub.hf_hub_download(repository, artifact.MANIFEST, local_dir=folder)
        try:
            return set(artifact.read(Path(folder)).files)
        except ArtifactError:
            return set()


def _is_weight(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _WEIGHTS)


def _check(addition: Any, manifest: Manifest, folder: Path) -> None:
    """Others can write in a workspace: what is sent is what was judged."""
    if addition.upload_info.sha256.hex() != manifest.files[addition.path_in_repo].sha256:
        raise BadArtifact(f"{folder / addition.path_in_repo}: was changed while it was pushed")


@contextmanager
def _in_our_words(uri: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    give = (
        "It needs HF_TOKEN in the environment, which may write there; on a cluster the key `token` of the Secret that "
        "export.push.credentials names"
    )
    try:
        yield
    except (PublishRefused, BadArtifact):
        raise
    except LocalTokenNotFoundError:
        raise PublishRefused(f"export.push.uri: {uri}: there is no token. {give}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = _first(error)
        if status in (401, 403, 404):
            none = "" if os.environ.get("HF_TOKEN") else " (there is no HF_TOKEN)"
            raise PublishRefused(
                f"export.push.uri: {uri}: the hub does not let us write{none}: {said}. {give}"
            ) from None
        if status in (408, 429) or status >= 500:
            raise PublishFailed(f"export.push.uri: {uri}: the hub does not take it now: {said}") from None
        raise PublishRefused(f"export.push.uri: {uri}: the hub does not take it: {said}") from None
    except Exception as error:
        raise PublishFailed(
            f"export.push.uri: {uri}: the hub does not answer: {_first(error)}. Check the network and HF_ENDPOINT, if "
            "it is set"
        ) from None


def _first(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return " ".join(lines[:2])[:300].rstrip(".") or type(error).__name__
