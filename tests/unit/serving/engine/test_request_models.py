"""Whose fault it is that a request could not be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from slipway_serving.engine.request_models import RequestModels


class Request(BaseModel):
    """Reads one field before its type is known, as some of vLLM's do."""

    prompt: str
    options: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def look(cls, data: Any) -> Any:
        data.setdefault("options", {}).get("n")
        data["changed"] = True
        return data


MODELS = RequestModels({"/v1/completions": Request})


@pytest.mark.parametrize("options", [[], "x", 1, True, [{}]])
def test_the_field_on_which_a_model_breaks_is_found(options: Any) -> None:
    found = MODELS.problem("/v1/completions", json.dumps({"prompt": "x", "options": options}).encode())
    assert found is not None
    assert found[0] == "options"


def test_in_a_large_body_it_is_not_looked_for() -> None:
    body = json.dumps({"prompt": "x" * 20_000, "options": []}).encode()
    assert (MODELS.problem("/v1/completions", body) or ("?",))[0] is None


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/completions", b'{"prompt": "x"}'),
        ("/v1/completions", b'{"prompt": 1}'),
        ("/v1/completions", b"[]"),
        ("/chat", b'{"options": []}'),
    ],
)
def test_what_a_model_takes_or_refuses_itself_is_no_reason(route: str, body: bytes) -> None:
    assert MODELS.problem(route, body) is None
