"""Repositories of the Hugging Face hub."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from slipway_core import artifact, uris
from slipway_trainer.errors import BadConfig, FetchFailed
from slipway_trainer.stored_object import PART, StoredObject, credentials_field

_BUSY = (408, 429)


def dataset(uri: uris.Uri, field: str, patterns: list[str]) -> Path:
    """Returns the folder of the hub's own cache with what the patterns name. Raises BadConfig or FetchFailed."""
    from huggingface_hub import snapshot_download

    with _in_our_words(uri, field):
        return Path(
            snapshot_download(uri.repository, repo_type="dataset", revision=uri.revision, allow_patterns=patterns)
        )


class HubModel:
    """The files of a model's repository, at the commit that it had when they were listed.

    Errors name the URI and the field of the plan that it stands in: BadConfig, or FetchFailed for what may be otherwise
    at another time.
    """

    def __init__(self, uri: uris.Uri, field: str) -> None:
        self.uri, self.field = uri, field

    def folder(self) -> dict[str, StoredObject]:
        """Returns all files, by their path in the repository; where no hub answers, those that its own cache has."""
        from huggingface_hub import HfApi

        with _in_our_words(self.uri, self.field):
            try:
                info = HfApi().model_info(self.uri.repository, revision=self.uri.revision, files_metadata=True)
            except Exception as error:
                if _is_answer(error) or not (found := self._cached()):
                    raise
                return found
        files = info.siblings or ()
        return {file.rfilename: StoredObject(file.rfilename, file.size or 0, None, info.sha or "") for file in files}

    def download(self, found: StoredObject, target: Path) -> None:
        """Writes a file to a path that is there in full or not at all, and goes on where an earlier call ended.

        On a disk with the hub's own cache it is the same file as there, which other runs find as well.
        """
        from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

        if target.exists():
            return
        repository, commit = self.uri.repository, found.version
        target.parent.mkdir(parents=True, exist_ok=True)
        linked = _can_link(Path(constants.HF_HUB_CACHE), target.parent)
        cached = linked or isinstance(try_to_load_from_cache(repository, found.key, revision=commit), str)
        part = target.with_name(f"{target.name}{PART}")
        with _in_our_words(self.uri, self.field):
            there = Path(
                hf_hub_download(repository, found.key, revision=commit, local_dir=None if cached else str(part))
            )
        if not cached:
            there.rename(target)
            shutil.rmtree(part)
            return
        part.unlink(missing_ok=True)
        if linked:
            os.link(there.resolve(), part)
            self._name(commit)
        else:
            shutil.copyfile(there, part)
        part.rename(target)

    def _name(self, commit: str) -> None:
        """Notes in the hub's cache what the branch or tag was, so that it is found there without a hub."""
        from huggingface_hub import constants

        name = self.uri.revision or constants.DEFAULT_REVISION
        if name != commit:
            cache = Path(constants.HF_HUB_CACHE, f"models--{self.uri.repository.replace('/', '--')}")
            (reference := cache / "refs" / name).parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(commit)

    def _cached(self) -> dict[str, StoredObject]:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            folder = Path(
                snapshot_download(
                    self.uri.repository,
                    revision=self.uri.revision,
                    allow_patterns=list(artifact.MODEL_FILES),
                    local_files_only=True,
                )
            )
        except LocalEntryNotFoundError:
            return {}
        names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        # A snapshot is named after its commit.
        return {name: StoredObject(name, path.stat().st_size, None, folder.name) for name, path in names.items()}


def _can_link(cache: Path, folder: Path) -> bool:
    """Whether a file of the hub's cache can be one of a folder, too."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=cache) as probe:
            link = folder / Path(probe.name).name
            os.link(probe.name, link)
            link.unlink()
    except OSError:
        return False
    return True


def _is_answer(error: BaseException | None) -> bool:
    """Whether a hub has said something by this error that it would say again."""
    from huggingface_hub.errors import HfHubHTTPError

    return (
        isinstance(error, HfHubHTTPError)
        and error.response.status_code < 500
        and error.response.status_code not in _BUSY
    )


@contextmanager
def _in_our_words(uri: uris.Uri, field: str) -> Iterator[None]:
    from huggingface_hub.errors import (
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of whichever HTTP client the library uses
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ValueError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        if isinstance(cause, HTTPError) and not _is_answer(cause):
            raise FetchFailed(
                f"{field}: {uri}: the hub does not answer: {said}. Check the network and HF_ENDPOINT, if it is set"
            ) from None
        raise BadConfig(
            f"{field}: {uri}: cannot be fetched: {said}. Check the name and the network; a private or gated repository "
            "needs HF_TOKEN in the environment; on a cluster name a Secret with the key `token` in "
            f"{credentials_field(field)}"
        ) from None
