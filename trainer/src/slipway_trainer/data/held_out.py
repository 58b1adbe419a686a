"""The held-out documents and prompts of a plan, each with the place that it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from slipway_trainer.data import rows
from slipway_trainer.data.inputs import FileKey, Input, InputFile, Inputs
from slipway_trainer.data.reading.block import Block
from slipway_trainer.data.rows import Document, Prompt

Row = TypeVar("Row", Document, Prompt)


@dataclass(frozen=True)
class _Held(Generic[Row]):
    name: str
    """The file, as a user knows it."""
    row: Row

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
class HeldPrompt(_Held[Prompt]):
    recall: bool
    """Whether the training data is meant to hold the answer."""


@dataclass(frozen=True)
class HeldOut:
    documents: list[HeldDocument]
    prompts: list[HeldPrompt]
    forms: dict[FileKey, str] = field(default_factory=dict[FileKey, str])
    """Of the rows of each file."""


def read(found: Inputs) -> HeldOut:
    """Raises BadData for a bad row."""
    held = HeldOut([], [])
    for file, _, block in _blocks(found.evaluation):
        held.documents.extend(HeldDocument(block.name, row) for row in rows.documents(block, "HeldOut"))
        held.forms[file.key] = str(rows.form_of(block, "HeldOut"))
    for file, source, block in _blocks(found.prompts):
        held.prompts.extend(HeldPrompt(block.name, row, source.recall) for row in rows.prompts(block))
        held.forms[file.key] = str(rows.form_of(block, "Prompts"))
    return held


def _blocks(found: Iterable[Input]) -> Iterator[tuple[InputFile, Input, Block]]:
    return ((file, source, block) for source in found for file in source.files for block in file.blocks())


def digest_of_copies(copies: Mapping[str, str]) -> str:
    """Returns the digest of the held-out data, from the SHA-256 of each of its copies by the name of the file."""
    return "sha256:" + hashlib.sha256(json.dumps(dict(copies), sort_keys=True).encode()).hexdigest()
