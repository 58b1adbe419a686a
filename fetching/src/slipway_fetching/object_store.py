"""Objects of S3 and Google Cloud Storage: found by name, folder or glob, and brought to this machine whole."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Any, TypeVar

from slipway_core.resources import uris
from slipway_fetching.blocking_calls import together
from slipway_fetching.errors import FetchError, Misconfigured, Unavailable
from slipway_fetching.requester import Requester
from slipway_fetching.stored_object import PART, StoredObject

_T = TypeVar("_T")
SCHEMES = ("s3", "gs")
BLOCK = 16 << 20
"""Bytes of one request. What is fetched holds PARALLEL of them in memory, however large the object is."""
PARALLEL = 4
KEYS: Mapping[str, str] = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for another store than Amazon's, AWS_ENDPOINT_URL",
    "gs": "GOOGLE_SERVICE_ACCOUNT_KEY",
}
"""By scheme: the environment variables that say who reads, and where."""
_ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL"}
# Where a machine of a cloud gets keys of its own; a store asks there when it was given none.
_METADATA = ("169.254.169.254", "metadata.google.internal", "169.254.170.2")
_CLIENT = {"timeout": "60s", "connect_timeout": "10s"}
_MOST_RETRIES = 10


class ObjectStore:
    """The bucket of a URI. Errors name the URI as whoever asks knows it.

    What another attempt would meet again is Misconfigured: no or wrong keys, no such bucket. Unavailable may be
    otherwise at another time.
    """

    def __init__(self, uri: uris.Uri, requester: Requester, environment: Mapping[str, str] | None = None) -> None:
        from obstore.store import from_url

        self.uri, self.requester = uri, requester
        variable = _ENDPOINTS[uri.scheme]
        endpoint = (os.environ if environment is None else environment).get(variable, "")
        if endpoint and not re.fullmatch(r"https?://[^\s/]+\S*", endpoint):
            raise self.bad(f"{variable} is {endpoint!r}, which is no http:// or https:// address")
        # A store inside the cluster often has no certificate; whoever writes http:// has decided that.
        options: Any = {**_CLIENT, "allow_http": endpoint.startswith("http://")}
        retry: Any = {"max_retries": _MOST_RETRIES, "retry_timeout": requester.patience}
        address = f"{uri.scheme}://{uri.authority}"
        self._store: Any = self._asked(lambda: from_url(address, client_options=options, retry_config=retry))

    def find(self) -> list[StoredObject]:
        """Returns what the URI names, sorted, as of files: one object, those that a glob matches, or those below a
        folder that are not hidden."""
        path = self.uri.path
        if not path.endswith("/") and (found := self._head(path)) is not None:
            return [found]
        if has_magic(path):
            fixed = re.split(r"[*?\[]", path, maxsplit=1)[0].rpartition("/")[0]
            return [found for found in self._below(fixed) if matches(found.key, path)]
        names = self.folder().items()
        return [found for name, found in names if not any(part.startswith(".") for part in name.split("/"))]

    def folder(self) -> dict[str, StoredObject]:
        """Returns all objects below the URI, by their path in it."""
        prefix = self.uri.path.strip("/")
        return {found.key[len(prefix) + 1 :]: found for found in self._below(prefix)}

    def address(self, found: StoredObject) -> str:
        return f"{self.uri.scheme}://{self.uri.authority}/{found.key}"

    def download(self, found: StoredObject, target: Path) -> None:
        """Writes an object to a path that is there in full or not at all, and goes on where an earlier call ended.

        The path must stand for what was found: a file of the same size there is taken for it.

        Raises Misconfigured, Unavailable, or OSError of the target.
        """
        if target.is_file() and target.stat().st_size == found.size:
            return
        # A list may write an entity tag in another way than the answers for the object itself, which are compared.
        current = self._head(found.key)
        if current is None or current.size != found.size:
            raise self._changed(found)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{current.fingerprint}{PART}")
        part.touch()
        with part.open("r+b") as file:
            start = min(part.stat().st_size, found.size)
            file.seek(start)
            for block in self._blocks(current, start):
                file.write(block)
            file.truncate(found.size)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)

    def lacking(self, wanted: Mapping[str, StoredObject], folder: Path) -> list[StoredObject]:
        return [one for name, one in wanted.items() if not (folder / name).exists()]

    def bring(self, wanted: Mapping[str, StoredObject], folder: Path) -> None:
        for name, found in wanted.items():
            self.download(found, folder / name)

    def bad(self, problem: str) -> Misconfigured:
        return Misconfigured(f"{self.requester.named(self.uri)}: {problem}")

    def _head(self, key: str) -> StoredObject | None:
        import obstore

        try:
            return _stored(self._asked(lambda: obstore.head(self._store, key)))
        except FileNotFoundError:
            return None

    def _below(self, prefix: str) -> list[StoredObject]:
        import obstore

        def listed() -> list[StoredObject]:
            pages = obstore.list(self._store, prefix.strip("/"))  # pyright: ignore[reportUnknownMemberType]
            return [_stored(entry) for page in pages for entry in page]

        try:
            return sorted(self._asked(listed), key=lambda found: found.key)
        except FileNotFoundError:
            raise self._no_bucket() from None

    def _blocks(self, found: StoredObject, start: int) -> Iterator[bytes]:
        from obstore.exceptions import PreconditionError

        starts = range(start, found.size, BLOCK)
        for first in range(0, len(starts), PARALLEL):
            try:
                blocks = self._all_asked(partial(self._block, found, one) for one in starts[first : first + PARALLEL])
            except (FileNotFoundError, PreconditionError):
                raise self._changed(found) from None
            yield from blocks

    def _block(self, found: StoredObject, start: int) -> bytes:
        import obstore

        end = min(start + BLOCK, found.size)
        options: Any = {"range": (start, end)} | ({"if_match": found.e_tag} if found.e_tag else {})
        got = obstore.get(self._store, found.key, options=options)
        block = bytes(got.bytes())
        if got.meta["e_tag"] != found.e_tag or len(block) != end - start:
            raise self._changed(found)
        return block

    def _changed(self, found: StoredObject) -> Unavailable:
        return Unavailable(
            f"{self.requester.named(self.address(found))}: was changed while it was fetched; it is fetched again"
        )

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """Raises FileNotFoundError and PreconditionError as they are, all else in our words."""
        [answer] = self._all_asked([ask])
        return answer

    def _all_asked(self, asks: Iterable[Callable[[], _T]]) -> list[_T]:
        # Not by the store's own coroutines: a thread of theirs may still want the interpreter when it goes down.
        from obstore.exceptions import BaseError, PreconditionError

        try:
            return together(asks)
        except (FileNotFoundError, PreconditionError):
            raise
        except (BaseError, OSError, ValueError) as error:
            raise self._in_our_words(str(error)) from None

    def _in_our_words(self, error: str) -> FetchError:
        said = " ".join(error.partition("\n\nDebug source")[0].split())
        keys = KEYS[self.uri.scheme]
        give = (
            f"Set {keys} in the environment; on a cluster name a Secret with these keys in {self.requester.credentials}"
        )
        if any(address in error for address in _METADATA):
            return self.bad(f"there are no credentials to read it with, and this machine has none of its own. {give}")
        if "NoSuchBucket" in said:
            return self._no_bucket()
        if "BareRedirect" in error or "redirect" in said:
            return self.bad(f"the bucket is in another region: {said}. Set AWS_REGION to its region")
        status = int(found[1]) if (found := re.search(r"status code: (\d{3})", said)) else None
        if status in (401, 403):
            return self.bad(
                f"may not be read with these credentials: {said}. {give}, and let them read and list the bucket (some "
                "stores answer the same for an object that is not there)"
            )
        if status == 404:
            return self._no_bucket()
        if status is not None and 400 <= status < 500 and status not in (408, 429):
            return self.bad(f"the store refuses it: {said}. Check the URI. {give}")
        if "Error performing" not in said:
            # Nothing was asked yet: what it was set up with is wrong.
            return self.bad(f"the store cannot be set up: {said}. {give}")
        return Unavailable(
            f"{self.requester.named(self.uri)}: the store does not answer: {said}. Check the network and "
            f"{_ENDPOINTS[self.uri.scheme]} (left out it is {'Amazon' if self.uri.scheme == 's3' else 'Google'})"
        )

    def _no_bucket(self) -> Misconfigured:
        return self.bad(
            f"there is no such bucket, {self.uri.authority}. Check its name and {_ENDPOINTS[self.uri.scheme]}, which "
            "says whose buckets these are"
        )


def matches(key: str, pattern: str) -> bool:
    """Whether a glob names a key, as it would name a file: `**` stands for any folders, hidden ones are left out."""
    return _match(key.split("/"), pattern.split("/"))


def _match(names: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        if _match(names, patterns[1:]):
            return True
        return bool(names) and not names[0].startswith(".") and _match(names[1:], patterns)
    if not names or (names[0].startswith(".") and not patterns[0].startswith(".")):
        return False
    return fnmatchcase(names[0], patterns[0]) and _match(names[1:], patterns[1:])


def _stored(entry: Any) -> StoredObject:
    version = entry["e_tag"] or entry["last_modified"].isoformat()
    return StoredObject(entry["path"], entry["size"], entry["e_tag"], version)
