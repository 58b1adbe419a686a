"""A request's body: read within limits, looked at, and handed on to the application unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

from slipway_serving.http.refusal import ClientLeft, Refusal

# What the routes of /chat, OpenAI and Anthropic call the number of new tokens.
_NEW_TOKENS = ("max_length", "max_tokens", "max_completion_tokens", "max_output_tokens")


async def read(receive: Any, headers: Mapping[str, str], max_bytes: int, seconds: float) -> bytes:
    """Reads the whole body.

    Raises:
        Refusal: 413 above `max_bytes` (announced or sent), 408 when it takes longer than `seconds`.
        ClientLeft: the connection was closed.
    """
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _collect(receive, max_bytes)
    except TimeoutError:
        raise Refusal(408, "slow_body", f"The request's body did not arrive within {seconds:g} s.") from None


async def _collect(receive: Any, max_bytes: int) -> bytes:
    pieces, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece = message.get("body", b"")
        size += len(piece)
        if size > max_bytes:
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


def check_amount(body: bytes, max_new_tokens: int, max_choices: int, status: int) -> None:
    """Raises Refusal when a body asks for more work than one request may; the rest is the application's to judge.

    `status` is what the route answers to a wrong field.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return
    if not isinstance(fields, dict):
        return
    for name, asked, limit, what in _amounts(fields, max_new_tokens, max_choices):
        if asked > limit:
            message = f"{name}: {asked:g} is above this server's limit of {limit} {what}."
            raise Refusal(status, "too_much", message, param=name)


def _amounts(fields: Mapping[str, Any], max_new_tokens: int, max_choices: int) -> Iterator[tuple[str, float, int, str]]:
    for name in _NEW_TOKENS:
        if (asked := _amount(fields.get(name))) is not None:
            yield name, asked, max_new_tokens, "new tokens"
    prompts = fields.get("prompt")
    # A list of strings, or of lists of token ids, is a batch; a list of numbers is one prompt.
    batch = len(prompts) if isinstance(prompts, list) and not all(_is_number(part) for part in prompts) else 1
    for name in ("n", "best_of"):
        if (asked := _amount(fields.get(name))) is not None:
            yield name, asked * batch, max_choices, "answers at a time"
    yield "prompt", batch, max_choices, "prompts at a time"


def _amount(value: Any) -> float | None:
    """Returns a number as vLLM reads it: its models take "500" for 500."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
