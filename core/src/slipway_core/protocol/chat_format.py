"""How a model is talked to beside its chat template: in `tokenizer_config.json`, so it is a part of what was judged.

Prepare writes it with the run's tokenizer, and every later step and the server read it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway_core.protocol.artifact import RESTORE, ArtifactError
from slipway_core.protocol.reasoning import Reasoning

KEY: Final = "slipway_chat"
"""In tokenizer_config.json, where transformers keeps what it does not know."""


class ChatFormat(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    arguments: dict[str, Any] = Field(default_factory=dict)
    """What the template is given beside the conversation."""
    reasoning: Reasoning | None = None
    """How an answer marks its reasoning; None where the template marks none."""
    tool_parser: str | None = Field(default=None, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    """vLLM's name for how the template writes calls of tools; None where it writes none that is known."""

    def to_document(self) -> dict[str, Any]:
        """Returns what is written: without what is left out."""
        return self.model_dump(exclude_none=True, exclude_defaults=True)


def of_config(config: Mapping[str, Any]) -> ChatFormat:
    """Returns what the settings of a tokenizer say; an empty format where they say nothing.

    Raises ArtifactError where they say something that is none.
    """
    try:
        return ChatFormat.model_validate(config.get(KEY) or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (KEY, *first["loc"])))
        raise ArtifactError(f"tokenizer_config.json: {where}: {first['msg']}. {RESTORE}.") from None
