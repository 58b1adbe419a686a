"""The held-out documents, conversations and prompts of a plan, each with the place that it comes from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from slipway_trainer.data import rows
from slipway_trainer.data.inputs import FileKey, Input, InputFile, Inputs
from slipway_trainer.data.reading.block import Block
from slipway_trainer.data.rows import Conversation, Document, Prompt

Row = TypeVar("Row", Document, Conversation, Prompt)


@dataclass(frozen=True)
class _Held(Generic[Row]):
    name: str
    """The file, as a user knows it."""
    row: Row
    of: str | None = field(default=None, kw_only=True)
    """The name of its source."""

    @property
    def place(self) -> str:
        return f"{self.name}:{self.row.line}"

    @property
    def source(self) -> str:
        """Where it stands, without a folder of this machine: the same data has the same digest everywhere."""
        return f"{self.name.rsplit('/', 1)[-1]}:{self.row.line}"


@dataclass(frozen=True)
class HeldDocument(_Held[Document]):
    pass


@dataclass(frozen=True)
class HeldConversation(_Held[Conversation]):
    pass


@dataclass(frozen=True)
class HeldPrompt(_Held[Prompt]):
    recall: bool
    """Whether the training data is meant to hold the answer."""


@dataclass(frozen=True)
class HeldOut:
    documents: list[HeldDocument]
    prompts: list[HeldPrompt]
    forms: dict[FileKey, str] = field(default_factory=dict[FileKey, str])
    """Of the rows of each file."""
    conversations: list[HeldConversation] = field(default_factory=list[HeldConversation])
    blank: Counter[str] = field(default_factory=Counter[str])
    """By file, the rows whose text says nothing, which are in none of these."""


def read(found: Inputs) -> HeldOut:
    """Raises BadData for a bad row."""
    held = HeldOut([], [])
    for file, source, block in _blocks(found.evaluation):
        form = rows.form_of(block, "HeldOut")
        held.forms[file.key] = str(form)
        if form in (None, "Text"):
            blank: list[int] = []
            texts = rows.documents(block, "HeldOut", blank=blank)
            held.blank.update({block.name: len(blank)} if blank else {})
            held.documents.extend(HeldDocument(block.name, row, of=source.name) for row in texts)
        else:
            spoken = rows.conversations(block, use="HeldOut")
            held.conversations.extend(HeldConversation(block.name, row, of=source.name) for row in spoken)
    for file, source, block in _blocks(found.prompts):
        asked = rows.prompts(block)
        held.prompts.extend(HeldPrompt(block.name, row, source.recall, of=source.name) for row in asked)
        held.forms[file.key] = str(rows.form_of(block, "Prompts"))
    return held


def _blocks(found: Iterable[Input]) -> Iterator[tuple[InputFile, Input, Block]]:
    return ((file, source, block) for source in found for file in source.files for block in file.blocks())


def digest_of_copies(copies: Mapping[str, str]) -> str:
    """Returns the digest of the held-out data, from the SHA-256 of each of its copies by the name of the file."""
    return "sha256:" + hashlib.sha256(json.dumps(dict(copies), sort_keys=True).encode()).hexdigest()
