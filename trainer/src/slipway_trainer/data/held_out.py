"""The held-out documents and prompts of a plan, each with the place that it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from slipway_trainer.data import inputs, rows
from slipway_trainer.data.inputs import Inputs
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


def read(found: Inputs) -> HeldOut:
    """Raises BadData for a bad row."""
    return HeldOut(
        documents=[
            HeldDocument(block.name, row)
            for _, block in inputs.blocks(found.evaluation)
            for row in rows.documents(block, "HeldOut")
        ],
        prompts=[
            HeldPrompt(block.name, row, source.recall)
            for source, block in inputs.blocks(found.prompts)
            for row in rows.prompts(block)
        ],
    )


def digest_of_copies(copies: Mapping[str, str]) -> str:
    """Returns the digest of the held-out data, from the SHA-256 of each of its copies by the name of the file."""
    return "sha256:" + hashlib.sha256(json.dumps(dict(copies), sort_keys=True).encode()).hexdigest()
