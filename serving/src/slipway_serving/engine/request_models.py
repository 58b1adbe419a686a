"""Whether vLLM's own models of a request can be made of it.

Some of what they run before they look at a field takes for granted what the field is: a list where an object belongs
ends in an AttributeError, which is no answer to a client. A wrong field that they name themselves is left to them.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from pydantic import BaseModel, ValidationError

# The field is looked for by leaving out one after the other, on the event loop.
_SEARCHED_BYTES = 16 * 1024


def request_models() -> dict[str, type[BaseModel]]:
    """Returns the model of each route's body, by the route's label."""
    from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    return {
        "/v1/chat/completions": ChatCompletionRequest,
        "/v1/completions": CompletionRequest,
        "/v1/responses": ResponsesRequest,
        "/v1/messages": AnthropicMessagesRequest,
        "/v1/messages/count_tokens": AnthropicCountTokensRequest,
    }


class RequestModels:
    def __init__(self, models: dict[str, type[BaseModel]]) -> None:
        self._models = models

    def problem(self, route: str, body: bytes) -> tuple[str | None, str] | None:
        """Returns the field on which the route's model breaks, None where it is not one alone, and why.

        Called when a request has failed: it tells whether that was the request's fault. None: it was not.
        """
        model = self._models.get(route)
        fields = json.loads(body) if model is not None else None
        if model is None or not isinstance(fields, dict) or not _breaks(model, fields):
            return None
        why = "it has a form that is not known here; see the API's reference"
        if len(body) > _SEARCHED_BYTES:
            return None, why
        names = [name for name in fields if name in model.model_fields]
        without = ({other: value for other, value in fields.items() if other != name} for name in names)
        return next((name for name, rest in zip(names, without, strict=True) if not _breaks(model, rest)), None), why


def _breaks(model: type[BaseModel], fields: dict[str, Any]) -> bool:
    try:
        model.model_validate(copy.deepcopy(fields))  # Its validators change what they are given.
    except (ValidationError, ValueError, TypeError, OverflowError, NotImplementedError):
        return False  # vLLM answers these with 400 and its own words.
    except Exception:
        return True
    return False
