"""Repositories of the Hugging Face hub: in the hub's own cache, or as files of a folder of ours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway_core import uris
from slipway_trainer.errors import BadConfig, FetchFailed
from slipway_trainer.stored_object import PART, StoredObject, credentials_field

_BUSY = (408, 429)


def snapshot(uri: uris.Uri, field: str, kind: str, patterns: list[str]) -> Path:
    """Returns the folder of the hub's cache with what the patterns name, as links. Raises BadConfig or FetchFailed."""
    from huggingface_hub import snapshot_download

    with _in_our_words(uri, field):
        return Path(snapshot_download(uri.repository, repo_type=kind, revision=uri.revision, allow_patterns=patterns))


class HubModel:
    """The files of a model's repository, at the commit that it had when they were listed.

    Errors name the URI and the field of the plan that it stands in: BadConfig, or FetchFailed for what may be otherwise
    at another time.
    """

    def __init__(self, uri: uris.Uri, field: str) -> None:
        self.uri, self.field = uri, field

    def folder(self) -> dict[str, StoredObject]:
        """Returns all files, by their path in the repository."""
        from huggingface_hub import HfApi

        with _in_our_words(self.uri, self.field):
            info = HfApi().model_info(self.uri.repository, revision=self.uri.revision, files_metadata=True)
        commit = info.sha or ""
        files = info.siblings or ()
        return {file.rfilename: StoredObject(file.rfilename, file.size or 0, None, commit) for file in files}

    def download(self, found: StoredObject, target: Path) -> None:
        """Writes a file to a path that is there in full or not at all, and goes on where an earlier call ended."""
        from huggingface_hub import hf_hub_download

        if target.exists():
            return
        # Below the target's folder, so that its last move is a rename.
        part = target.with_name(f"{target.name}{PART}")
        with _in_our_words(self.uri, self.field):
            there = hf_hub_download(self.uri.repository, found.key, revision=found.version, local_dir=str(part))
        Path(there).rename(target)
        shutil.rmtree(part)


@contextmanager
def _in_our_words(uri: uris.Uri, field: str) -> Iterator[None]:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of whichever HTTP client the library uses
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ValueError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        lost = isinstance(cause, HTTPError) and status is None
        if lost or (status is not None and (status >= 500 or status in _BUSY)):
            raise FetchFailed(
                f"{field}: {uri}: the hub does not answer: {said}. Check the network and HF_ENDPOINT, if it is set"
            ) from None
        raise BadConfig(
            f"{field}: {uri}: cannot be fetched: {said}. Check the name and the network; a private or gated repository "
            "needs HF_TOKEN in the environment; on a cluster name a Secret with the key `token` in "
            f"{credentials_field(field)}"
        ) from None
