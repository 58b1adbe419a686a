"""Annotations by which people and promotions ask something of a run or an endpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

RETRY_ANNOTATION = "slipway.dev/retry"
"""A new value gives a failed run its retries back."""

REEVALUATE_ANNOTATION = "slipway.dev/reevaluate"
"""A new value has a held run judged again."""

REMOVE_ANNOTATION = "slipway.dev/remove"
"""Of the record of a run that is gone: with the value `now` what it left goes at once."""
REMOVE_NOW = "now"

RUN_CREATED_ANNOTATION = "slipway.dev/run-created"
"""Of an endpoint: creationTimestamp of the run that it was last told to serve."""
RUN_UID_ANNOTATION = "slipway.dev/run-uid"
"""Of an endpoint: uid of that run."""
_TOKEN_LIMIT = 253
"""Characters of an annotation's value that a status holds as it is; an annotation may have 256 KiB."""


def request_token(annotations: Mapping[str, str], name: str) -> str | None:
    """Returns the value of an annotation that asks for something, as a status remembers it: a hash of a long one."""
    value = annotations.get(name)
    if value is None or len(value) <= _TOKEN_LIMIT:
        return value
    return hashlib.sha256(value.encode()).hexdigest()
