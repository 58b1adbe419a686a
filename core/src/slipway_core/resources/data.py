"""The data that a stage learns from, and what of it validates."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Rule, ShortText
from slipway_core.resources.source import Source

ConversationForm = Literal["Messages", "ShareGPT", "Alpaca", "PromptCompletion", "QuestionAnswer", "UserAssistant"]
RowForm = Literal["Text", ConversationForm, "Preference"]


class Columns(Api):
    """Which columns of a file stand for our fields, where they have other names."""

    text: ShortText | None = None
    system: ShortText | None = None
    user: ShortText | None = None
    assistant: ShortText | None = None
    prompt: ShortText | None = None
    completion: ShortText | None = None
    chosen: ShortText | None = None
    rejected: ShortText | None = None
    answer: ShortText | None = None
    messages: ShortText | None = None
    """A conversation: a list of turns."""

    def named(self) -> tuple[tuple[str, str], ...]:
        """Returns pairs of our field and the column of the file."""
        return tuple((name, column) for name in type(self).model_fields if (column := getattr(self, name)) is not None)


class DataSource(Source):
    format: Literal["Auto", RowForm] = "Auto"
    """What its rows are; Auto finds it out from the first row of each file."""
    documents: Literal["File", "Paragraph"] = "File"
    """What a document of a .txt file is; paragraphs are separated by empty lines."""
    columns: Columns | None = None
    """Columns of other names."""
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
    """Training data: texts for CausalLM, conversations for Chat, in any of the forms that docs/data.md lists.

    Fields that nothing asks for are the user's own, and named by prepare. One that would change what is rendered or
    learned and is not used yet, such as a picture or a weight of a half, is refused."""
    validation: Validation | None = None
    """What the validation loss is measured on; left out, none is measured."""
