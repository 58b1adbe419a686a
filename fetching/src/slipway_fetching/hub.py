"""Repositories of the Hugging Face hub."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from slipway_core.resources import uris
from slipway_fetching.errors import FetchError, Misconfigured, Unavailable
from slipway_fetching.requester import Requester
from slipway_fetching.stored_object import PART, StoredObject
from slipway_host.files import sync

_BUSY = (408, 429)
_SECONDS = 60
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
"""Errors that say nothing about the hub."""


def dataset(uri: uris.Uri, requester: Requester, patterns: list[str]) -> Path:
    """Returns the folder of the hub's own cache with what the patterns name. Raises Misconfigured or Unavailable."""
    from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType]

    with _in_our_words(uri, requester):
        return Path(
            snapshot_download(uri.repository, repo_type="dataset", revision=uri.revision, allow_patterns=patterns)
        )


class HubModel:
    """The files of a model's repository, at the commit that it had when they were listed.

    They come by a cache of the hub's library and are the same files as there, where one disk has both. Errors name the
    URI as whoever asks knows it: Misconfigured, or Unavailable, which may be otherwise at another time.
    """

    def __init__(self, uri: uris.Uri, requester: Requester, cache: Path | None = None) -> None:
        """`cache`: None for the one of this machine, which other runs use as well."""
        self.uri, self.requester, self.cache = uri, requester, cache
        self.commit = ""
        self.offline = False
        """Whether no hub has answered, so that its cache is what there is."""

    def folder(self) -> dict[str, StoredObject]:
        """Returns all files, by their path in the repository."""
        from huggingface_hub import HfApi

        with _in_our_words(self.uri, self.requester):
            try:
                repository, revision = self.uri.repository, self.uri.revision
                info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=_SECONDS)
            except Exception as error:
                if _is_answer(error) or not (found := self._cached()):
                    raise
                self.offline = True
                return found
        self.commit = info.sha or ""
        files = info.siblings or ()
        return {file.rfilename: StoredObject(file.rfilename, file.size or 0, None, self.commit) for file in files}

    def lacking(self, wanted: Mapping[str, StoredObject], folder: Path) -> list[StoredObject]:
        from huggingface_hub import try_to_load_from_cache

        if self.cache is not None:
            # Nothing goes on from those, and they take the room that is looked for next.
            for left in self.cache.rglob("*.incomplete"):
                left.unlink()

        def is_here(name: str) -> bool:
            revision = self.commit or self.uri.revision
            found = try_to_load_from_cache(self.uri.repository, name, cache_dir=self.cache, revision=revision)
            return (folder / name).exists() or isinstance(found, str)

        return [one for name, one in wanted.items() if not is_here(name)]

    def bring(self, wanted: Mapping[str, StoredObject], folder: Path) -> None:
        from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType]
        from huggingface_hub.errors import LocalEntryNotFoundError

        names = [name for name in wanted if not (folder / name).exists()]
        if not names:
            return
        with _in_our_words(self.uri, self.requester):
            try:
                there = Path(
                    snapshot_download(
                        self.uri.repository,
                        revision=self.uri.revision,
                        cache_dir=self.cache,
                        allow_patterns=[glob.escape(name) for name in names],
                        local_files_only=self.offline,
                    )
                )
            except LocalEntryNotFoundError:
                if self.offline:
                    raise self._incomplete() from None
                raise
        if any(not (there / name).exists() for name in names):
            raise self._incomplete()
        if self.commit not in ("", there.name):
            raise Unavailable(
                f"{self.requester.named(self.uri)}: was changed while it was fetched; it is fetched again"
            )
        # A snapshot is named after its commit.
        self.commit = there.name
        for name in names:
            _place((there / name).resolve(), folder / name)

    def _cached(self) -> dict[str, StoredObject]:
        """Returns the files that the repository had when it was fetched last; they may not all have been."""
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        try:
            files = get_cached_repo_tree(self.uri.repository, revision=self.uri.revision, cache_dir=self.cache)
        except CachedRepoTreeNotFoundError:
            return {}
        return {file.path: StoredObject(file.path, file.size, None, "") for file in files}

    def _incomplete(self) -> Unavailable:
        return _no_answer(self.uri, self.requester, "its cache lacks files of the model")


def _place(source: Path, target: Path) -> None:
    part = target.with_name(f"{target.name}{PART}")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # Another disk, or one that has no links; somebody else's file.
        shutil.copyfile(source, part)
    sync(part)
    part.replace(target)


def _is_answer(error: BaseException | None) -> bool:
    """Whether a hub has said by this error what it would say again."""
    from huggingface_hub.errors import HfHubHTTPError

    if not isinstance(error, HfHubHTTPError):
        return False
    return error.response.status_code < 500 and error.response.status_code not in _BUSY


def _no_answer(uri: uris.Uri, requester: Requester, said: str) -> Unavailable:
    return Unavailable(
        f"{requester.named(uri)}: the hub does not answer: {said}. Check the network and HF_ENDPOINT, if it is set"
    )


@contextmanager
def _in_our_words(uri: uris.Uri, requester: Requester) -> Generator[None]:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except FetchError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        # A name that is none is a ValueError. All else comes from the way there: of its clients the library wraps some.
        if not _is_answer(cause) and not isinstance(cause, (OfflineModeIsEnabled, ValueError, type(None))):
            raise _no_answer(uri, requester, said) from None
        raise Misconfigured(
            f"{requester.named(uri)}: cannot be fetched: {said}. Check the name and the network; a private or gated "
            "repository needs HF_TOKEN in the environment; on a cluster name a Secret with the key `token` in "
            f"{requester.credentials}"
        ) from None
