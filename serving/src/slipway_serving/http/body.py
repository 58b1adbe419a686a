"""A request's body: read within limits, looked at, and handed on to the application unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from slipway_serving.http.bodies import Bodies, Body
from slipway_serving.http.refusal import ClientLeft, Refusal
from slipway_serving.settings import Limits


async def read(receive: Any, headers: Mapping[str, str], bodies: Bodies, body: Body, limits: Limits) -> bytes:
    """Reads the whole body.

    Raises:
        Refusal: 413 above `max_body_bytes` (announced or sent), 429 when there is no room for it, 408 when it takes
            longer than `body_timeout`, or gives way to others that are on their way.
        ClientLeft: the connection was closed.
    """
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limits.max_body_bytes:
        raise _too_large(limits.max_body_bytes)
    try:
        async with asyncio.timeout(limits.body_timeout) as deadline:
            with bodies.on_its_way(deadline):
                return await _collect(receive, body, limits.max_body_bytes)
    except TimeoutError:
        message = (
            f"The request's body did not arrive within {limits.body_timeout:g} s, or gave way to others that wait to "
            "be read: send it faster."
        )
        raise Refusal(408, "slow_body", message, headers={"Connection": "close"}) from None


async def _collect(receive: Any, body: Body, max_bytes: int) -> bytes:
    pieces, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece = message.get("body", b"")
        body.grows(len(piece))
        if body.size > max_bytes:
            raise _too_large(max_bytes)
        pieces.append(piece)
        more = message.get("more_body", False)
    return b"".join(pieces)


def _too_large(max_bytes: int) -> Refusal:
    # The rest of the body is not read, so the connection cannot be used again.
    return Refusal(
        413,
        "too_large",
        f"The request's body is above the limit of {max_bytes} bytes.",
        headers={"Connection": "close"},
    )


def replay(body: bytes, receive: Any) -> Any:
    """Returns an ASGI receive that gives the body once and then what the connection gives."""
    sent = False

    async def receive_again() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
