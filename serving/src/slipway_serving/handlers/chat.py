"""`POST /chat`: a message in, a response out.

It is a thin shape over vLLM's own chat object, so the chat template, stop tokens and generation config are those of
`/v1/chat/completions`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway_serving.http.refusal import Refusal

DEFAULT_MAX_LENGTH = 100

# What the chat completion calls fields of ours.
_FIELDS = {"max_completion_tokens": "max_length", "max_tokens": "max_length", "messages": "message"}

Text = Annotated[str, Field(min_length=1)]


class Turn(BaseModel):
    """One turn of the conversation so far."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: Text


class ChatRequest(BaseModel):
    """What a client asks. Unknown fields and wrong types are refused: a misspelt `max_lenght` must not pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    message: Text
    max_length: int = Field(DEFAULT_MAX_LENGTH, ge=1)
    """New tokens, the prompt's not counted."""
    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    """None: the model's generation config decides."""
    history: list[Turn] = Field(default_factory=list)
    stream: bool = False

    def messages(self) -> list[dict[str, str]]:
        """Returns the conversation as chat templates take it."""
        turns = [{"role": turn.role, "content": turn.content} for turn in self.history]
        return [*turns, {"role": "user", "content": self.message}]


def parse(body: bytes) -> ChatRequest:
    """Reads a request. Raises Refusal (422) that names the first wrong field."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        # A misspelt field is also a missing one: say what the client wrote, not what it did not.
        first = min(errors, key=lambda found: found["type"] != "extra_forbidden")
        name = ".".join(str(part) for part in first["loc"])
        message = (
            f"{name}: {_reason(first['type'], first['msg'])}" if name else f"The body is not right: {first['msg']}."
        )
        raise Refusal(422, "wrong_field", message, param=name or None) from None


def _reason(kind: str, said: str) -> str:
    if kind == "extra_forbidden":
        return f"unknown field; known are {', '.join(ChatRequest.model_fields)}."
    if kind == "missing":
        return "is missing."
    return f"{said[:1].lower()}{said[1:]}."


def completion_arguments(request: ChatRequest, model: str, max_new_tokens: int) -> dict[str, Any]:
    """Returns the fields of the chat completion that the engine is asked for.

    The default length gives way to a server's lower limit; one that the client asked for does not (`body` refuses it).
    """
    arguments: dict[str, Any] = {
        "model": model,
        "messages": request.messages(),
        "max_tokens": min(request.max_length, max_new_tokens),
        "temperature": request.temperature,
        "stream": request.stream,
    }
    if request.top_p is not None:
        arguments["top_p"] = request.top_p
    if request.stream:
        arguments["stream_options"] = {"include_usage": True}
    return arguments


def in_our_words(message: str, field: str | None) -> tuple[str, str | None]:
    """Returns an error of the chat completion's in the name of the field that the client sent."""
    if field not in _FIELDS and not any(f"parameter={theirs}" in message for theirs in _FIELDS):
        return message, field
    for theirs, ours in _FIELDS.items():
        message = message.replace(theirs, ours)
    return message, _FIELDS.get(field or "", field)


def response(completion: dict[str, Any]) -> dict[str, Any]:
    """Returns `{"response", "model", "finish_reason", "usage"}` from a chat completion, and `"reasoning"` of a model
    that thinks before it answers. Where it did not come to an end of that, the response is empty."""
    choice = completion["choices"][0]
    reasoning = choice["message"].get("reasoning")
    return {
        "response": choice["message"]["content"] or "",
        **({"reasoning": reasoning} if reasoning else {}),
        "model": completion["model"],
        "finish_reason": choice["finish_reason"],
        "usage": _usage(completion["usage"]),
    }


async def events(chunks: AsyncIterator[str]) -> AsyncIterator[str]:
    """Turns the chunks of a chat completion's stream into those of `/chat`.

    `{"reasoning": "..."}` for every piece of what a model thinks first, `{"delta": "..."}` for every piece of text,
    then `{"finish_reason", "model", "usage"}`, then `[DONE]`. An error after the first piece comes as
    `{"error": {...}}`, then `[DONE]`.
    """
    finish_reason = None
    async for line in chunks:
        data = line.removeprefix("data:").strip()
        if not data or data == "[DONE]" or data.startswith(":"):
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            yield _event(chunk)
            break
        for choice in chunk["choices"]:
            if thought := choice["delta"].get("reasoning"):
                yield _event({"reasoning": thought})
            if piece := choice["delta"].get("content"):
                yield _event({"delta": piece})
            finish_reason = choice.get("finish_reason") or finish_reason
        if usage := chunk.get("usage"):
            yield _event({"finish_reason": finish_reason, "model": chunk["model"], "usage": _usage(usage)})
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _usage(usage: dict[str, Any]) -> dict[str, int]:
    return {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
