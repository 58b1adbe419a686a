"""The held-out documents, conversations and prompts of a plan, each with the place that it comes from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from slipway_trainer.data import rows
from slipway_trainer.data.inputs import FileKey, Input, InputFile, Inputs
from slipway_trainer.data.reading.block import Block
from slipway_trainer.data.rows import Conversation, Document, Prompt
from slipway_trainer.step.errors import BadData, DamagedShard

Row = TypeVar("Row", Document, Conversation, Prompt)
AGAIN = "Start the run again, or have the model judged again, and the data is prepared anew"


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


HeldRow = TypeVar("HeldRow", HeldDocument, HeldConversation, HeldPrompt)


@dataclass(frozen=True)
class HeldTask:
    """A document of a task."""

    task: str
    number: int
    """Which one of the task, from 0."""
    text: str
    """What it asks, and the right answer."""

    @property
    def place(self) -> str:
        return f"document {self.number} of task {self.task}"


@dataclass(frozen=True)
class HeldOut:
    documents: list[HeldDocument]
    prompts: list[HeldPrompt]
    forms: dict[FileKey, str] = field(default_factory=dict[FileKey, str])
    """Of the rows of each file."""
    conversations: list[HeldConversation] = field(default_factory=list[HeldConversation])
    tasks: list[HeldTask] = field(default_factory=list[HeldTask])
    """The documents of all tasks."""
    blank: Counter[str] = field(default_factory=Counter[str])
    """By file, the rows whose text says nothing, which are in none of these."""

    @property
    def has_tools(self) -> bool:
        """Whether some conversations or prompts have tools, or call some."""
        chats = any(one.row.has_tools for one in self.conversations)
        return chats or any(one.row.tools is not None for one in self.prompts)


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
    return replace(
        held,
        documents=_with_clusters(held.documents, lambda row: row.text),
        conversations=_with_clusters(held.conversations, lambda row: [*map(asdict, row.turns), row.tools]),
        prompts=_with_clusters(held.prompts, lambda row: [*row.messages, row.tools]),
    )


def _with_clusters(found: list[HeldRow], said: Callable[[Any], Any]) -> list[HeldRow]:
    """Returns rows of which those that say the same are one cluster: the second tells nothing that the first did not.

    Of one that has a cluster the others are, too.

    Args:
        said: what a row says, for JSON.
    """
    keys = [json.dumps(said(one.row), ensure_ascii=False) for one in found]
    times, clusters = Counter(keys), dict[str, str]()
    for one, key in zip(found, keys, strict=True):
        if times[key] > 1 and one.row.labels.cluster is not None:
            clusters.setdefault(key, one.row.labels.cluster)

    def with_cluster(one: HeldRow, key: str) -> HeldRow:
        if times[key] == 1 or one.row.labels.cluster is not None:
            return one
        labels = replace(one.row.labels, cluster=clusters.setdefault(key, one.source))
        return replace(one, row=replace(one.row, labels=labels))

    return [with_cluster(one, key) for one, key in zip(found, keys, strict=True)]


def _blocks(found: Iterable[Input]) -> Iterator[tuple[InputFile, Input, Block]]:
    return ((file, source, block) for source in found for file in source.files for block in file.blocks())


def copied_bytes(path: Path, copies: Mapping[str, str]) -> bytes:
    """Returns a copy of held-out data. Raises BadData where it is not there, DamagedShard where it was changed.

    Args:
        copies: SHA-256 of each copy by the name of the file, as `prepare` wrote them.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}. Start the run again to prepare its data") from None
    if hashlib.sha256(content).hexdigest() != copies.get(path.name):
        raise DamagedShard(f"{path}: was changed after it was prepared. {AGAIN}")
    return content


def digest_of_copies(copies: Mapping[str, str]) -> str:
    """Returns the digest of the held-out data, from the SHA-256 of each of its copies by the name of the file."""
    return "sha256:" + hashlib.sha256(json.dumps(dict(copies), sort_keys=True).encode()).hexdigest()
