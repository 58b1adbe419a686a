"""An answer that says no, in the shape that OpenAI's clients read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    422: "invalid_request_error",
    431: "request_too_large",
    429: "rate_limit_error",
    503: "service_unavailable",
    504: "timeout_error",
}


# Not frozen: an exception's traceback is set on it as it passes through a context manager.
@dataclass(eq=False)
class Refusal(Exception):
    """Why a request is not served: `reason` is the metric's label, `param` the field of the request's body."""

    status: int
    reason: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """Returns the JSON body."""
        return json.dumps(error_object(self.status, self.message, self.param), ensure_ascii=False).encode()


class ClientLeft(Exception):
    """The client closed the connection before its answer began: there is nobody to answer."""


def error_object(status: int, message: str, param: str | None = None) -> dict[str, object]:
    """Returns `{"error": {message, type, param, code}}`."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}
