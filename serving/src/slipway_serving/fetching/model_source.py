"""Where a model is fetched from: an object store (S3, Google Cloud Storage) or the Hugging Face hub."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from slipway_core.resources import uris

_T = TypeVar("_T")
_BLOCK = 8 << 20
CREDENTIALS: Mapping[str, str] = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL",
    "gs": "GOOGLE_SERVICE_ACCOUNT_KEY or GOOGLE_SERVICE_ACCOUNT",
    "hf": "HF_TOKEN",
}
"""By scheme: the environment variables that say who reads, and where."""
_ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL"}


class SourceError(Exception):
    """The model cannot be read there: the message names the URI, what was answered and what to do."""


class ModelSource(Protocol):
    """A folder of files that is somewhere else."""

    def files(self) -> dict[str, int]:
        """Returns the size in bytes of every file, by its path in the folder. Raises SourceError."""
        ...

    def download(self, name: str, target: Path) -> None:
        """Writes one of the files to a path whose folder is there. Raises SourceError, or OSError of the target."""
        ...


def open_source(text: str, environment: Mapping[str, str] = os.environ) -> ModelSource:
    """Returns the source that a URI names, without asking it anything. Raises SourceError."""
    try:
        uri = uris.parse(text)
    except uris.UriError as error:
        raise SourceError(str(error)) from None
    if uri.scheme in ("s3", "gs"):
        return ObjectStore(text, uri.scheme, environment)
    if uri.scheme == "hf":
        return Hub(uri)
    raise SourceError(f"{text}: a model is fetched from s3://, gs:// or hf://; {uri.scheme}:// is read where it is")


class ObjectStore:
    """The objects below a prefix of a bucket."""

    def __init__(self, uri: str, scheme: str, environment: Mapping[str, str]) -> None:
        from obstore.store import from_url

        self._uri, self._scheme = uri, scheme
        endpoint = environment.get(_ENDPOINTS[scheme], "")
        # A store inside the cluster often has no certificate; whoever writes http:// has decided that.
        options: Any = {"allow_http": endpoint.startswith("http://")}
        self._store = self._asked(lambda: from_url(uri.rstrip("/"), client_options=options))

    def files(self) -> dict[str, int]:
        import obstore

        def listed() -> dict[str, int]:
            return {entry["path"]: entry["size"] for page in obstore.list(self._store) for entry in page}

        found = self._asked(listed)
        if not found:
            raise SourceError(f"{self._uri}: there is nothing below this prefix; check the bucket and the path")
        return found

    def download(self, name: str, target: Path) -> None:
        import obstore

        stream = self._asked(lambda: iter(obstore.get(self._store, name).stream(min_chunk_size=_BLOCK)))
        with target.open("wb") as file:
            while (block := self._asked(lambda: next(stream, None))) is not None:
                file.write(block)

    def _asked(self, ask: Callable[[], _T]) -> _T:
        from obstore.exceptions import BaseError

        try:
            return ask()
        except (BaseError, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise SourceError(
                f"{self._uri}: cannot be read: {reason}. Check the name, the network and the Secret, whose keys are "
                f"{CREDENTIALS[self._scheme]}"
            ) from None


class Hub:
    """A repository of the Hugging Face hub, at one commit of it."""

    def __init__(self, uri: uris.Uri) -> None:
        self._uri = uri
        self._commit: str | None = None

    def files(self) -> dict[str, int]:
        from huggingface_hub import HfApi

        info = self._asked(
            lambda: HfApi().model_info(self._uri.repository, revision=self._uri.revision, files_metadata=True)
        )
        self._commit = info.sha
        return {file.rfilename: file.size or 0 for file in info.siblings or ()}

    def download(self, name: str, target: Path) -> None:
        from huggingface_hub import hf_hub_download

        # Below the target's folder, so that its last move is a rename.
        scratch = target.parent / f".{target.name}.hub"
        revision = self._commit or self._uri.revision
        found = self._asked(
            lambda: hf_hub_download(self._uri.repository, name, revision=revision, local_dir=str(scratch))
        )
        Path(found).rename(target)
        shutil.rmtree(scratch)

    def _asked(self, ask: Callable[[], _T]) -> _T:
        from huggingface_hub.errors import (
            HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of whichever HTTP client the library uses
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
        )

        try:
            return ask()
        except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise SourceError(
                f"{self._uri}: cannot be fetched: {reason}. Check the name and the network; a private or gated "
                f"repository needs {CREDENTIALS['hf']}"
            ) from None
