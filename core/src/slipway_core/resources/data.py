"""The data that a stage learns from, and what of it validates."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from slipway_core.resources.api import Api, Rule, ShortText, Uri


class DataSource(Api):
    uri: Uri
    """A file, folder or glob of .jsonl, .jsonl.gz, .jsonl.zst or .parquet."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """How often an epoch sees each document: 2 is twice, 0.5 is every other one (chosen by the seed)."""
    credentials: ShortText | None = None
    """Secret for a private source, with the keys that those of a model have. Locally, the environment is used."""


class Validation(Api):
    rules: ClassVar = (
        Rule(
            "!(has(self.fraction) && has(self.data))",
            "set at most one of fraction and data",
            lambda self: self.fraction is None or self.data is None,
        ),
    )

    fraction: float | None = Field(default=None, ge=0, lt=1)
    """Share of the training documents that is set aside, chosen by the seed."""
    data: Annotated[list[DataSource], Field(min_length=1, max_length=64)] | None = None
    """Documents of their own instead."""
    every_steps: int = Field(default=50, ge=1)
    """Optimizer steps between two measurements of the validation loss."""


class StageData(Api):
    """What the stage learns, and what it is measured on meanwhile."""

    train: Annotated[list[DataSource], Field(min_length=1, max_length=64)]
    """Training data. Rows are {"text": …} for CausalLM and {"conversations": [{"role", "content"}, …]} for Chat.

    Other fields are the user's own. Those that change what is rendered or learned, such as tools, tool_calls,
    reasoning_content, weight and train, are not used yet: a row in which one says something is refused."""
    validation: Validation | None = None
    """What the validation loss is measured on; left out, none is measured."""
