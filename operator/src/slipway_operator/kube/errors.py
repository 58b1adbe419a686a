"""What the API server refuses, in our own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from slipway_operator.kube.manifest import Manifest, at


class ClusterError(Exception):
    """A call to the API server that did not succeed; the message is the server's own."""


class NotFound(ClusterError):
    """The object, its namespace or its kind does not exist."""


class AlreadyExists(ClusterError):
    """An object of that name is there already."""


class Conflict(ClusterError):
    """The object is not the one that the caller read: read it again."""


class Invalid(ClusterError):
    """The server does not take the object; repeating changes nothing."""


class Forbidden(ClusterError):
    """The operator's role does not allow it, an admission policy refuses it, or the namespace is being deleted."""


class QuotaExceeded(Forbidden):
    """The namespace has no room for it."""


class Busy(ClusterError):
    """The server asks to come back after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Expired(ClusterError):
    """The list that is being paged is too old: begin again."""


class TooLong(ClusterError):
    """The answer is longer than the caller takes at once: ask for less."""


class NotLeading(ClusterError):
    """Another replica may lead by now, so nothing was written."""


class Unreachable(ClusterError):
    """No answer, or none that says anything. A write may have been done nevertheless."""


_BUSY_SECONDS = 1.0
"""Where the server names no time."""


def reason_of(error: Exception) -> str:
    """Returns what an error of the network says, or what it is where it says nothing: a time-out does not."""
    return str(error) or type(error).__name__


def of_response(status: int, headers: Mapping[str, str], body: bytes) -> ClusterError:
    """Returns the error of an answer whose HTTP status is not a success."""
    told = _status(body)
    reason = str(told.get("reason") or "")
    message = str(told.get("message") or body[:500].decode(errors="replace") or f"HTTP {status}")
    match status:
        case 404:
            return NotFound(message)
        case 409:
            return AlreadyExists(message) if reason == "AlreadyExists" else Conflict(message)
        case 410:
            return Expired(message)
        case 422 if "metadata.uid: Invalid value" in message:
            return Conflict(message)  # Another object has the name by now.
        case 400 | 405 | 413 | 415 | 422:
            return Invalid(message)
        case 403 if "status unknown for quota" in message:
            return Busy(message, _BUSY_SECONDS)  # A quota that was just made has not been counted yet.
        case 403:
            return QuotaExceeded(message) if "exceeded quota" in message else Forbidden(message)
        case 429 | 503 | 504:
            return Busy(message, _retry_after(headers, told))
        case _:
            return Unreachable(f"HTTP {status}: {message}")


def _status(body: bytes) -> Manifest:
    try:
        told: Any = json.loads(body)
    except ValueError:
        return {}
    return cast(Manifest, told) if isinstance(told, dict) else {}


def _retry_after(headers: Mapping[str, str], told: Manifest) -> float:
    for value in (headers.get("Retry-After"), at(told, "details").get("retryAfterSeconds")):
        try:
            return max(0.0, float(str(value)))
        except ValueError:
            continue
    return _BUSY_SECONDS
