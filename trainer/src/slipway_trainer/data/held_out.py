"""The held-out documents and prompts: read, compared with the training data, and copied into the workspace."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from slipway_core.protocol.workspace import Workspace
from slipway_trainer.data import rows
from slipway_trainer.data.inputs import Input, Inputs
from slipway_trainer.data.overlap import CONTAINED_FROM_UNITS, Index, Match
from slipway_trainer.data.rows import Document, Prompt
from slipway_trainer.data.scan import Scan, Wording, wording
from slipway_trainer.data.text import units
from slipway_trainer.step.errors import Overlap
from slipway_trainer.step.files import write_atomically

SHOWN = 5
_RELATION = {
    "equal": "is the same as",
    "contained": "stands in",
    "similar": "is nearly the same as",
    "part": "holds most of",
}


@dataclass(frozen=True)
class HeldDocument:
    name: str
    row: Document

    @property
    def place(self) -> str:
        return f"{self.name}:{self.row.line}"

    @property
    def source(self) -> str:
        """Where it stands, without a folder of this machine: the same data has the same digest everywhere."""
        return f"{self.name.rsplit('/', 1)[-1]}:{self.row.line}"


@dataclass(frozen=True)
class HeldPrompt:
    name: str
    row: Prompt
    recall: bool

    @property
    def place(self) -> str:
        return f"{self.name}:{self.row.line}"

    @property
    def source(self) -> str:
        return f"{self.name.rsplit('/', 1)[-1]}:{self.row.line}"


@dataclass(frozen=True)
class HeldOut:
    documents: list[HeldDocument]
    prompts: list[HeldPrompt]

    @property
    def answers(self) -> list[HeldPrompt]:
        """Prompts whose answers are looked for: those that test recall, and others that are long enough to tell."""
        return [
            p for p in self.prompts if p.row.answer and (p.recall or len(units(p.row.answer)) >= CONTAINED_FROM_UNITS)
        ]

    def scan(self) -> Scan:
        answers = [prompt.row.answer or "" for prompt in self.answers]
        return Scan(
            held=Index([*(document.row.text for document in self.documents), *answers]),
            prompts=[wording(prompt.row.turns) for prompt in self.prompts],
        )


def read(inputs: Inputs) -> HeldOut:
    """Raises BadData for a bad row."""
    return HeldOut(
        documents=[
            HeldDocument(block.name, row) for _, block in _blocks(inputs.evaluation) for row in rows.documents(block)
        ],
        prompts=[
            HeldPrompt(block.name, row, source.recall)
            for source, block in _blocks(inputs.prompts)
            for row in rows.prompts(block)
        ],
    )


@dataclass
class Overlaps:
    """What the scan of the training data found, with the first place of each."""

    held: HeldOut
    _matches: dict[int, tuple[str, Match]] = field(default_factory=dict)
    _wordings: dict[int, str] = field(default_factory=dict)

    def add(self, name: str, matches: Iterable[Match], wordings: Iterable[Wording]) -> None:
        """`name` is the training file in which they were found."""
        for match in matches:
            self._matches.setdefault(match.held, (f"{name}:{match.line}", match))
        for found in wordings:
            self._wordings.setdefault(found.prompt, f"{name}:{found.line}")

    @property
    def recall_overlap(self) -> int:
        """Prompts that test recall, and whose answers the training data holds."""
        start = len(self.held.documents)
        return sum(prompt.recall for n, prompt in enumerate(self.held.answers) if start + n in self._matches)

    def refuse(self) -> None:
        """Raises Overlap when a document, or a prompt that is not meant to test recall, stands in the training data.

        A prompt that tests recall must be worded otherwise than every training prompt: the model would only repeat.
        """
        held = self.held
        documents = [
            f"{document.place} {_relation(*self._matches[number])}"
            for number, document in enumerate(held.documents)
            if number in self._matches
        ]
        if documents:
            raise Overlap(
                f"evaluation.data: {len(documents)} of {len(held.documents)} held-out documents stand in the training "
                f"data, so a gate on them would measure memory: {_listed(documents)}. Take them out of one of the two"
            )
        asked = [
            f"{prompt.place} is worded as {self._wordings[number]}"
            for number, prompt in enumerate(held.prompts)
            if number in self._wordings
        ]
        if asked:
            raise Overlap(
                f"evaluation.prompts: {len(asked)} of {len(held.prompts)} prompts stand in the training data word for "
                f"word: {_listed(asked)}. Word them otherwise there or here, also where they test recall"
            )
        answered = [
            f"the answer of {prompt.place} {_relation(*self._matches[number])}"
            for number, prompt in enumerate(held.answers, len(held.documents))
            if number in self._matches and not prompt.recall
        ]
        if answered:
            raise Overlap(
                f"evaluation.prompts: {len(answered)} of {len(held.prompts)} prompts have answers that stand in the "
                f"training data: {_listed(answered)}. Take them out of one of the two, or set recall: true when the "
                "prompts are meant to test recall"
            )


def copy(held: HeldOut, workspace: Workspace) -> dict[str, str]:
    """Writes the documents and prompts where `evaluate` reads them and returns the SHA-256 of each file by its name."""
    workspace.evaluation_data.mkdir(parents=True, exist_ok=True)
    documents = [{"text": document.row.text, "source": document.source} for document in held.documents]
    prompts: list[dict[str, Any]] = [
        {
            "conversations": [{"role": turn.role, "content": turn.content} for turn in prompt.row.turns],
            "recall": prompt.recall,
            "source": prompt.source,
        }
        | ({"answer": prompt.row.answer} if prompt.row.answer else {})
        for prompt in held.prompts
    ]
    digests = {}
    for path, found in ((workspace.evaluation_documents, documents), (workspace.evaluation_prompts, prompts)):
        text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in found)
        write_atomically(path, text)
        digests[path.name] = hashlib.sha256(text.encode()).hexdigest()
    return digests


def _blocks(found: Iterable[Input]) -> Iterable[tuple[Input, rows.Block]]:
    return ((source, block) for source in found for file in source.files for block in file.blocks())


def _relation(place: str, match: Match) -> str:
    share = "" if match.rule == "equal" else f" ({match.share:.0%} of it)"
    return f"{_RELATION[match.rule]} {place}{share}"


def _listed(found: list[str]) -> str:
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more
