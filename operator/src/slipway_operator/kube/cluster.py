"""Every call to the API server. JSON in and out; errors in our own words; no call but a read is ever repeated here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from urllib.parse import urlencode

import aiohttp

from slipway_core.resources.events import Event
from slipway_operator import names
from slipway_operator.kube import kinds
from slipway_operator.kube.answer import decoded
from slipway_operator.kube.errors import (
    AlreadyExists,
    Busy,
    ClusterError,
    Conflict,
    NotFound,
    NotLeading,
    TooLong,
    Unreachable,
    of_response,
    reason_of,
)
from slipway_operator.kube.events import api_event
from slipway_operator.kube.kinds import EVENT, Kind
from slipway_operator.kube.manifest import Manifest, at, items
from slipway_operator.kube.rate_limit import TokenBucket

_log = logging.getLogger(__name__)

PAGE: Final = 500
"""Objects in one answer to a list: what keeps the operator's memory flat."""
_FIRST_PAGE: Final = 50
_SLOW_PAGE: Final = 10
_QUICK: Final = 1.0
"""Seconds within which an answer to a list is to come for the next page to have twice as many objects."""
_SLOW: Final = 8.0
"""Seconds after which it has half as many. Of 500 ConfigMaps of 1 MB the API server reads all, whatever it tells of
them, and that takes it a minute."""
PAGE_BYTES: Final = 4 << 20
"""Of one answer to a list, unless a single object has more: a tenant's may have 1.5 MB each."""
_WARNINGS: Final = "type=Warning,reason!=FailedScheduling,reason!=Failed,reason!=BackOff"
"""Field selector; what it leaves out is in the status of the pod, and by far the most."""
WARNINGS: Final = ("FailedCreate", "FailedMount", "FailedAttachVolume")
"""Reasons of the Events that alone say why a Job has no pod, or a pod no volume."""
_EVENTS: Final = 5000
_EVENT_FIELDS: Final = ("reason", "type", "firstTimestamp", "lastTimestamp", "eventTime")
_WORDS: Final = 2000
"""Characters of an Event's message."""
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_READ_PAUSES = (0.2, 0.8)
"""Seconds before the second and the third try of a read."""


def next_limit(limit: int, took: float) -> int:
    """Returns how many objects the next page of a list is to have, after one that took so many seconds.

    A server that is busy takes its second for any page: fewer objects in each would make it busier. One that is near
    the time in which an answer is given up has objects of a megabyte to read.
    """
    if took <= _QUICK:
        return min(PAGE, 2 * limit)
    return limit if took <= _SLOW else max(min(limit, _SLOW_PAGE), limit // 2)


Counted = Callable[[str, str, str], None]
"""Told of every request: its verb, its kind, and the HTTP status, or `error` where there was none."""


@dataclass(frozen=True)
class Cluster:
    """One API server, as one client of it. Every method raises ClusterError."""

    api: Any
    """A kubernetes.aio ApiClient."""
    limit: TokenBucket
    clock: Callable[[], datetime]
    counted: Counted = lambda verb, kind, code: None
    may_write: Callable[[], bool] = lambda: True
    """Asked right before every write: whether this replica still leads."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Returns the object; None when there is none."""
        try:
            return await self._read("get", kind, kind.path(namespace, name))
        except NotFound:
            return None

    async def list(
        self, kind: Kind, namespace: str | None = None, selector: str | None = None
    ) -> tuple[list[Manifest], str]:
        """Returns the objects of a kind and the resourceVersion of the list. NotFound: there is no such kind."""
        found: list[Manifest] = []
        version = ""
        async for page, version in self.pages(kind, namespace, selector):  # noqa: B007
            found += page
        return found, version

    async def pages(
        self, kind: Kind, namespace: str | None = None, selector: str | None = None, fields: str | None = None
    ) -> AsyncIterator[tuple[list[Manifest], str]]:
        """Yields a list page by page, each with the resourceVersion of the whole. Expired: it took too long.

        Of kinds.METADATA_ALONE the objects have metadata alone. Where objects are large, a page has few of them.
        """
        query = {"labelSelector": selector or "", "fieldSelector": fields or ""}
        limit = min(PAGE, _FIRST_PAGE)
        while True:
            query["limit"] = str(limit)
            most = PAGE_BYTES if limit > 1 else None
            begun = asyncio.get_running_loop().time()
            try:
                answer = await self._read("list", kind, kind.path(namespace), query, most)
            except TooLong:
                limit = max(1, limit // 8)
                continue
            limit = next_limit(limit, asyncio.get_running_loop().time() - begun)
            page = items(answer, "items")
            for manifest in page:
                # Lists leave out what all their items have in common, and metadata alone says nothing of its kind.
                manifest["apiVersion"], manifest["kind"] = kind.api_version, kind.kind
            metadata = at(answer, "metadata")
            yield page, str(metadata.get("resourceVersion", ""))
            if not metadata.get("continue"):
                return
            query["continue"] = str(metadata["continue"])

    async def warnings(self, namespace: str) -> list[Manifest]:
        """Returns the Events of a namespace that warn of what its objects' own status does not say: of each what says
        why, and no more than a bounded number, for anybody may write Events."""
        found: list[Manifest] = []
        async for page, _ in self.pages(EVENT, namespace, fields=_WARNINGS):
            found += [_short(event) for event in page if event.get("reason") in WARNINGS]
            if len(found) >= _EVENTS:
                break
        return found[:_EVENTS]

    async def create(self, manifest: Manifest) -> Manifest:
        """Creates an object. AlreadyExists: one of that name is there."""
        kind, namespace, _ = _address(manifest)
        query = {"fieldManager": names.MANAGER}
        return await self._call("create", kind, "POST", kind.path(namespace), query, manifest)

    async def apply(self, manifest: Manifest) -> Manifest:
        """Makes the fields of the manifest so, whoever set them before; fields that it left out since are removed."""
        kind, namespace, name = _address(manifest)
        query = {"fieldManager": names.MANAGER, "force": "true"}
        return await self._call(
            "apply", kind, "PATCH", kind.path(namespace, name), query, manifest, "application/apply-patch+yaml"
        )

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """Deletes an object and, in the background, what it owns. One that is gone already is done.

        Args:
            kind: of the object.
            namespace: of the object.
            name: of the object.
            uid: of the one that is meant: another of the same name is left alone.
            resource_version: of the one that was read. Conflict: it has changed since.
        """
        options: Manifest = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if given := {name: value for name, value in preconditions.items() if value is not None}:
            options["preconditions"] = given
        try:
            await self._call("delete", kind, "DELETE", kind.path(namespace, name), {}, options)
        except NotFound:
            return
        except Conflict:
            if uid is None or resource_version is not None:
                raise

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replaces an object. Conflict: it has changed since it was read."""
        kind, namespace, name = _address(manifest)
        query = {"fieldManager": names.MANAGER}
        return await self._call("update", kind, "PUT", kind.path(namespace, name), query, manifest)

    async def replace_status(self, manifest: Manifest) -> Manifest:
        """Replaces the whole status. Conflict: the object has changed since it was read."""
        kind, namespace, name = _address(manifest)
        query = {"fieldManager": names.MANAGER}
        return await self._call("update_status", kind, "PUT", kind.path(namespace, name, "status"), query, manifest)

    async def record(self, involved: Manifest, event: Event) -> None:
        """Tells an Event about an object, once a generation of it. One that cannot be written is logged and let go."""
        try:
            await self.create(api_event(involved, event, self.clock()))
        except AlreadyExists:
            return
        except ClusterError as error:
            _log.warning("the Event %s (%s) was not written: %s", event.reason, event.message, error)

    async def _read(
        self, verb: str, kind: Kind, path: str, query: dict[str, str] | None = None, most: int | None = None
    ) -> Manifest:
        for pause in _READ_PAUSES:
            try:
                return await self._call(verb, kind, "GET", path, query or {}, most=most)
            except Unreachable:
                await self.sleep(pause)
            except Busy as busy:
                await self.sleep(max(pause, min(busy.retry_after, 5.0)))
        return await self._call(verb, kind, "GET", path, query or {}, most=most)

    async def _call(
        self,
        verb: str,
        kind: Kind,
        method: str,
        path: str,
        query: dict[str, str],
        body: Manifest | None = None,
        content_type: str = "application/json",
        most: int | None = None,
    ) -> Manifest:
        await self.limit.take()
        accepted = kinds.accept(kind, listed=True) if verb == "list" else "application/json"
        headers = {"Accept": accepted, "Content-Type": content_type}
        code = "error"
        if method != "GET" and not self.may_write():
            raise NotLeading(f"{method} {path}: not written, this replica does not lead any more")
        try:
            await self.api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            given = urlencode({name: value for name, value in query.items() if value})
            url = f"{self.api.configuration.host}{path}{'?' if given else ''}{given}"
            answer = await self.api.call_api(method, url, headers, body, _request_timeout=_TIMEOUT)
            content: bytes = await (answer.read() if most is None else read_at_most(answer.response, most))
            code = str(answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{method} {path}: {reason_of(error)}") from error
        finally:
            self.counted(verb, kind.kind, code)
        if not 200 <= answer.status < 300:
            raise of_response(answer.status, answer.headers, content)
        return cast(Manifest, decoded(content))


def _short(event: Manifest) -> Manifest:
    about = at(event, "involvedObject")
    return {
        **{name: str(event[name])[:64] for name in _EVENT_FIELDS if event.get(name)},
        "message": str(event.get("message", ""))[:_WORDS],
        "involvedObject": {name: str(about.get(name, ""))[:256] for name in ("kind", "name", "uid")},
        "series": {"lastObservedTime": at(event, "series").get("lastObservedTime")},
    }


async def read_at_most(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """Returns what an answer holds. Raises TooLong when that is more, with the rest left unread."""
    content = bytearray()
    async for part in answer.content.iter_chunked(1 << 16):
        content += part
        if len(content) > most:
            answer.close()
            raise TooLong(f"the answer has more than {most} bytes")
    return bytes(content)


def _address(manifest: Manifest) -> tuple[Kind, str | None, str]:
    kind = kinds.of(manifest)
    metadata = at(manifest, "metadata")
    return kind, metadata.get("namespace"), metadata["name"]
