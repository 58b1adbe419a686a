"""Repositories of the Hugging Face hub."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from slipway_core.resources import uris
from slipway_fetching.errors import FetchError, Misconfigured, Unavailable
from slipway_fetching.requester import Requester
from slipway_fetching.stored_object import PART, StoredObject
from slipway_host.files import sync

Kind = Literal["model", "dataset"]

_BUSY = (408, 429)
_SECONDS = 60
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
"""Errors that say nothing about the hub."""


class HubRepository:
    """The files of a model or of a dataset, at the commit that its repository had when they were listed.

    They come by a cache of the hub's library and are the same files as there, where one disk has both. Errors name the
    URI as whoever asks knows it: Misconfigured, or Unavailable, which may be otherwise at another time.
    """

    def __init__(
        self,
        uri: uris.Uri,
        requester: Requester,
        cache: Path | None = None,
        kind: Kind = "model",
        revision: str | None = None,
    ) -> None:
        """
        Args:
            cache: None for the one of this machine, which other runs use as well.
            revision: another one than that of the URI.
        """
        self.uri, self.requester, self.cache, self.kind = uri, requester, cache, kind
        self.revision = revision or uri.revision
        self.commit = ""
        self.offline = False
        """Whether no hub has answered, so that its cache is what there is."""

    def folder(self) -> dict[str, StoredObject]:
        """Returns all files, by their path in the repository."""
        with _in_our_words(self.uri, self.requester):
            try:
                return self._listed()
            except Exception as error:
                if _is_answer(error) or not (found := self._cached()):
                    raise
                self.offline = True
                return found

    def _listed(self) -> dict[str, StoredObject]:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        repository, hub = self.uri.repository, HfApi()
        info = hub.repo_info(repository, repo_type=self.kind, revision=self.revision, timeout=_SECONDS)
        commit = info.sha or ""
        # The siblings in what was told are not all of a repository of very many files.
        tree = hub.list_repo_tree(repository, recursive=True, revision=commit or None, repo_type=self.kind)
        found = {
            file.path: StoredObject(file.path, file.size, None, commit, file.lfs.sha256 if file.lfs else None)
            for file in tree
            if isinstance(file, RepoFile)
        }
        self.commit = commit
        return found

    def lacking(self, wanted: Mapping[str, StoredObject], folder: Path) -> list[StoredObject]:
        from huggingface_hub import try_to_load_from_cache

        if self.cache is not None:
            # Nothing goes on from those, and they take the room that is looked for next.
            for left in self.cache.rglob("*.incomplete"):
                left.unlink()

        def is_here(name: str) -> bool:
            found = try_to_load_from_cache(
                self.uri.repository,
                name,
                cache_dir=self.cache,
                revision=self.commit or self.revision,
                repo_type=self.kind,
            )
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
                        repo_type=self.kind,
                        revision=self.revision,
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

    def bring_alone(self, name: str, folder: Path) -> Path:
        """Returns a file that has come into a folder, and into no cache: a hub has to answer."""
        from huggingface_hub import hf_hub_download  # pyright: ignore[reportUnknownVariableType]

        if self.offline:
            raise _no_answer(self.uri, self.requester, "what is streamed is read from there each time")
        with _in_our_words(self.uri, self.requester):
            return Path(
                hf_hub_download(
                    self.uri.repository,
                    name,
                    repo_type=self.kind,
                    revision=self.commit or self.revision,
                    local_dir=folder,
                )
            )

    def _cached(self) -> dict[str, StoredObject]:
        """Returns the files that the repository had when it was fetched last; they may not all have been."""
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        try:
            files = get_cached_repo_tree(
                self.uri.repository, revision=self.revision, repo_type=self.kind, cache_dir=self.cache
            )
        except CachedRepoTreeNotFoundError:
            return {}
        return {file.path: StoredObject(file.path, file.size, None, "") for file in files}

    def _incomplete(self) -> Unavailable:
        return _no_answer(self.uri, self.requester, f"its cache lacks files of the {self.kind}")


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
