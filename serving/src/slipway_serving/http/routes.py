"""The open list: every path that the server answers, and who may ask. What is not here does not exist.

vLLM attaches many more routes (/invocations, /tokenize, /pause, ...), new ones with every version; a list of what
is closed would be out of date with each of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    method: str
    pattern: str
    """A path, or a regular expression of one where part of it varies; it must match the whole path."""
    label: str
    """How metrics name it: never the client's own text, which would make a series for each."""
    needs_key: bool = True
    generates: bool = False
    """Takes a place among the running generations."""
    converses: bool = False
    """Takes a conversation, which a chat template renders, and no raw prompt."""
    key_header: str | None = None
    """Where else than in Authorization its clients send their key."""

    def matches(self, path: str) -> bool:
        return re.fullmatch(self.pattern, path) is not None


ROUTES = (
    Route("GET", "/", "/", needs_key=False),
    Route("GET", "/health", "/health", needs_key=False),
    Route("GET", "/readyz", "/readyz", needs_key=False),
    Route("GET", "/livez", "/livez", needs_key=False),
    Route("GET", "/promptz", "/promptz", needs_key=False),
    Route("GET", "/metrics", "/metrics", needs_key=False),
    Route("POST", "/chat", "/chat", generates=True, converses=True),
    Route("GET", "/v1/models", "/v1/models"),
    Route("POST", "/v1/chat/completions", "/v1/chat/completions", generates=True, converses=True),
    Route("POST", "/v1/completions", "/v1/completions", generates=True),
    Route("POST", "/v1/responses", "/v1/responses", generates=True, converses=True),
    Route("GET", r"/v1/responses/[\w-]+", "/v1/responses/{id}"),
    Route("POST", r"/v1/responses/[\w-]+/cancel", "/v1/responses/{id}/cancel"),
    Route("POST", "/v1/messages", "/v1/messages", generates=True, converses=True, key_header="x-api-key"),
    # It makes no answer, but a long text takes a core as long as a short answer does.
    Route(
        "POST",
        "/v1/messages/count_tokens",
        "/v1/messages/count_tokens",
        generates=True,
        converses=True,
        key_header="x-api-key",
    ),
)


def find(method: str, path: str) -> Route | None:
    """Returns the route, or None when the server has none for this method and path."""
    return next((route for route in ROUTES if route.method == method and route.matches(path)), None)


def methods(path: str) -> list[str]:
    """Returns the methods that a path answers: empty when there is no such path."""
    return [route.method for route in ROUTES if route.matches(path)]
