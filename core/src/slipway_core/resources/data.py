"""The data that a stage learns from, and what of it validates."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Rule, ShortText
from slipway_core.resources.source import Source

ConversationForm = Literal[
    "Messages", "ShareGPT", "Alpaca", "Dolly", "PromptCompletion", "QuestionAnswer", "UserAssistant"
]
RowForm = Literal["Text", ConversationForm, "Preference"]
TextForm = Literal["NFC", "Strip", "LineEnds"]
Deduplicate = Literal["None", "Exact", "Near"]
PROPORTIONS_SUM = (0.985, 1.015)
"""Between what the proportions of a mixture may be together: three times 0.33 is a third each."""


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
    proportion: float | None = Field(default=None, gt=0, le=1)
    """Share of the stage's tokens that come from this source, in place of weight: 0.3 is 30 %, whatever the size of the
    source. Every source of the stage has one, they are 1 together, and the stage has steps or tokens."""
    credentials: ShortText | None = None
    """Secret for a private source, with the keys that those of a model have. Locally, the environment is used."""


class Validation(Api):
    rules: ClassVar = (
        Rule(
            "!has(self.data) || !self.data.exists(s, has(s.proportion))",
            "validation data is measured once, as it is: leave proportion out",
            lambda self: not any(source.proportion is not None for source in self.data or ()),
            "data",
        ),
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


def _are_one(proportions: list[float]) -> bool:
    least, most = PROPORTIONS_SUM
    return least <= sum(proportions) <= most


class StageData(Api):
    """What the stage learns, and what it is measured on meanwhile."""

    rules: ClassVar = (
        Rule(
            "self.train.all(s, has(s.proportion)) || !self.train.exists(s, has(s.proportion))",
            "give each source of the stage a proportion, or none",
            lambda self: len({source.proportion is None for source in self.train}) == 1,
            "train",
        ),
        Rule(
            "!self.train.exists(s, has(s.proportion) && has(s.weight) && s.weight != 1.0)",
            "set weight or proportion of a source: a proportion says how often its documents are seen",
            lambda self: not any(source.proportion is not None and source.weight != 1 for source in self.train),
            "train",
        ),
        Rule(
            "!self.train.all(s, has(s.proportion)) || "
            "(self.train.map(s, has(s.proportion) ? s.proportion : 0.0).sum() >= 0.985 && "
            "self.train.map(s, has(s.proportion) ? s.proportion : 0.0).sum() <= 1.015)",
            "the proportions of the sources must be 1 together",
            lambda self: len(self.proportions) < len(self.train) or _are_one(self.proportions),
            "train",
            lambda self: f"they are {sum(self.proportions):.6g}",
        ),
        Rule(
            "!has(self.temperature) || !self.train.exists(s, has(s.proportion) || (has(s.weight) && s.weight != 1.0))",
            "temperature takes the shares from the sizes of the sources: leave proportion and weight out",
            lambda self: self.temperature is None or not (self.proportions or any(s.weight != 1 for s in self.train)),
            "temperature",
        ),
        Rule(
            "!has(self.normalization) || self.normalization.all(f, self.normalization.exists_one(g, g == f))",
            "a normalization is named twice",
            lambda self: len(set(self.normalization or ())) == len(self.normalization or ()),
            "normalization",
        ),
    )

    train: Annotated[list[DataSource], Field(min_length=1, max_length=64)]
    """Training data: texts for CausalLM, conversations for Chat, pairs of answers for Preference, in any of the forms
    that docs/data.md lists.

    Fields that nothing asks for are the user's own, and named by prepare. One that would change what is rendered or
    learned and is not used yet, such as a picture or a weight of a half, is refused."""
    temperature: float | None = Field(default=None, ge=1, le=100)
    """Mixes the sources by their sizes: the share of one with n tokens is proportional to n^(1/temperature). 1 keeps
    the sizes, 3 is common for languages, 100 makes the shares nearly equal. The stage has steps or tokens."""
    normalization: Annotated[list[TextForm], Field(min_length=1, max_length=3)] | None = None
    """What is done to texts and to the contents of turns before they are learned; nothing when left out. NFC composes
    characters, LineEnds makes every line end a line feed, Strip takes the white space off both ends. Also done to
    validation data, never to what is held out for the evaluation."""
    deduplicate: Deduplicate = "None"
    """Which training rows are left out for what stands before them, over all sources in their order. Exact: the same to
    the byte, after normalization. Near: also those that share about 80 % of their runs of five words. All of them are
    counted, and listed in duplicates.jsonl of the run's folder."""
    validation: Validation | None = None
    """What the validation loss is measured on; left out, none is measured."""

    @property
    def proportions(self) -> list[float]:
        """Returns the proportion of each source; none where the stage has none."""
        return [source.proportion for source in self.train if source.proportion is not None]

    @property
    def mixed(self) -> bool:
        """Whether shares of tokens are asked for, and not a number of times."""
        return self.temperature is not None or bool(self.proportions)
