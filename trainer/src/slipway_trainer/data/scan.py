"""The first look at training data: every row is checked, and held-out text is looked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from slipway_core.resources.data import Deduplicate
from slipway_trainer.data import passage_sample, row_marks, rows, validation_split
from slipway_trainer.data.formats.row_format import Format
from slipway_trainer.data.grams import Numbered, number_units
from slipway_trainer.data.overlap import Found, Index, Passage
from slipway_trainer.data.reading.block import Block
from slipway_trainer.data.row_marks import Marks
from slipway_trainer.data.rows import Conversation
from slipway_trainer.data.text import comparable, units

Objective = Literal["CausalLM", "Chat", "Preference"]
TURN_BREAK = "\x1f"
_ANSWERED = "\x1e"
"""Begins an answer with what it answers, which no wording of a prompt begins with."""
_INSTRUCTING = ("system", "developer")
"""Whose turns are no part of how a prompt is worded."""


@dataclass(frozen=True)
class Wording:
    """A prompt's wording that stands in the training data."""

    prompt: int
    line: int


@dataclass(frozen=True)
class Findings:
    """What a block holds."""

    rows: int
    characters: int
    keys: np.ndarray
    """uint64 [rows]: equal for equal documents."""
    held: Found
    """What of the held-out texts stands in it."""
    wordings: list[Wording]
    passages: np.ndarray
    """Of its texts, as `passage_sample.of` gives them."""
    prompted: bool
    """Whether some of its texts begin with what is seen and not learned."""
    unused: Counter[str]
    """Fields of its rows that nothing asks for, with the number of rows that have them."""
    form: Format
    """Of the rows of its file."""
    marks: Marks | None = None
    """By which rows are left out that say the same; None where that is not asked for."""
    blank: int = 0
    """Rows beside these whose text is empty, or white space alone."""
    tools: bool = False
    """Whether some of its conversations have tools, or call some."""


@dataclass
class Scan:
    """Called with blocks of a file; can be sent to other processes."""

    held: Index
    prompts: Sequence[str]
    """The wording of each prompt, as `wording` makes it."""
    sampled_below: int = 0
    """Threshold of the sample of passages; none are sampled when 0."""
    exchanges: bool = False
    """Whether some of `prompts` are answers with what they answer."""
    _by_wording: dict[str, list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._by_wording = defaultdict(list)
        for number, prompt in enumerate(self.prompts):
            self._by_wording[prompt].append(number)

    def __call__(self, job: tuple[Objective, Block]) -> Findings:
        """Raises BadData for the first bad row."""
        return self.marked((*job, "None"))

    def marked(self, job: tuple[Objective, Block, Deduplicate]) -> Findings:
        """Returns the same with the marks by which rows are left out as it is asked for."""
        objective, block, deduplicate = job
        if objective == "CausalLM":
            return self._documents(block, deduplicate)
        return self._conversations(block, objective, deduplicate)

    def _wordings(self, row: Conversation) -> set[str]:
        """What a conversation trains the model to answer: every user turn by itself, and with all that went before. And
        where that is looked for, each answer behind the turn before it."""
        spoken = spoken_turns(row.turns)
        texts = [comparable(turn.said) for turn in spoken]
        found: set[str] = set()
        for number, turn in enumerate(spoken):
            if turn.role == "user":
                found |= {texts[number], _joined(texts[: number + 1])}
            elif self.exchanges and turn.role == "assistant" and number:
                found.add(_ANSWERED + _joined(texts[number - 1 : number + 1]))
        return found

    def _sample(self, passages: Sequence[Passage], numbered: Numbered) -> np.ndarray:
        if not self.sampled_below:
            return np.zeros(0, np.uint64)
        holders = np.array([passage.holder for passage in passages], bool)
        texts = [passage.units for passage in passages]
        return passage_sample.of_numbered(texts, numbered, holders, self.sampled_below)

    def _documents(self, block: Block, deduplicate: Deduplicate) -> Findings:
        unused: Counter[str] = Counter()
        blank: list[int] = []
        found = rows.documents(block, unused=unused, blank=blank)
        split = [units(row.text) for row in found]
        texts = ["".join(own) for own in split]
        keys = [validation_split.key(text) for text in texts]
        passages = [
            Passage(row.line, own, whole=True, holder=True, key=key)
            for row, own, key in zip(found, split, keys, strict=True)
        ]
        numbered = number_units(split)
        return Findings(
            rows=len(found),
            characters=sum(len(row.text) for row in found),
            keys=np.array(keys, np.uint64),
            held=self.held.find(passages, numbered),
            wordings=[
                Wording(prompt, row.line)
                for row, text in zip(found, texts, strict=True)
                for prompt in self._by_wording.get(text, ())
            ],
            passages=self._sample(passages, numbered),
            prompted=any(row.prompt for row in found),
            unused=unused,
            form=_form(block, "CausalLM"),
            marks=row_marks.of_documents(found, near=deduplicate == "Near") if deduplicate != "None" else None,
            blank=len(blank),
        )

    def _conversations(self, block: Block, objective: Objective, deduplicate: Deduplicate) -> Findings:
        unused: Counter[str] = Counter()
        found = spoken(block, objective, unused)
        passages: list[Passage] = []
        keys, wordings = [], []
        for row in found:
            turns = [units(turn.said) for turn in row.turns]
            keys.append(_key(["".join(turn) for turn in turns], row))
            said = [unit for turn in turns for unit in turn]
            passages.append(Passage(row.line, said, whole=False, holder=True, key=keys[-1]))
            passages += [
                Passage(row.line, own, whole=True, holder=False, key=keys[-1])
                for turn, own in zip(row.turns, turns, strict=True)
                if turn.role == "assistant"
            ]
            wordings += [
                Wording(prompt, row.line) for text in self._wordings(row) for prompt in self._by_wording.get(text, ())
            ]
        numbered = number_units([passage.units for passage in passages])
        return Findings(
            rows=len(found),
            characters=sum(len(turn.said) for row in found for turn in row.turns),
            keys=np.array(keys, np.uint64),
            held=self.held.find(passages, numbered),
            wordings=wordings,
            passages=self._sample(passages, numbered),
            prompted=False,
            unused=unused,
            form=_form(block, objective),
            tools=any(row.has_tools for row in found),
            marks=row_marks.of_conversations(found, near=deduplicate == "Near") if deduplicate != "None" else None,
        )


def spoken(block: Block, objective: Objective, unused: Counter[str] | None = None) -> list[Conversation]:
    """Returns the conversations of a block, of pairs of answers with the turns of both. Raises BadData."""
    if objective == "Preference":
        return [pair.together for pair in rows.pairs(block, unused)]
    return rows.conversations(block, unused)


def spoken_turns(turns: Sequence[rows.Turn]) -> list[rows.Turn]:
    """Returns the turns of a conversation without those that instruct."""
    return [turn for turn in turns if turn.role not in _INSTRUCTING]


def exchange(before: rows.Turn, answer: rows.Turn) -> str:
    """Returns an answer behind what it answers, in the form in which they are looked for."""
    return _ANSWERED + _joined(comparable(turn.said) for turn in (before, answer))


def wording(turns: Sequence[rows.Turn]) -> str:
    """Returns how a prompt is worded: its turns without the system's, each in the form in which texts are compared."""
    return _joined(comparable(turn.said) for turn in turns if turn.role not in _INSTRUCTING)


def _form(block: Block, objective: Objective) -> Format:
    form = rows.form_of(block, objective)
    assert form is not None  # Rows of none are refused.
    return form


def document_key(text: str) -> int:
    return validation_split.key(comparable(text))


def conversation_key(row: Conversation) -> int:
    return _key([comparable(turn.said) for turn in row.turns], row)


def _key(parts: Sequence[str], row: Conversation) -> int:
    """Returns the key of a conversation, whose turns in the form in which they are compared are `parts`."""
    if row.prompt is None:
        return validation_split.key(_joined(parts))
    return validation_split.pair_key(_joined(parts[: row.prompt]), _joined(parts))


def _joined(parts: Iterable[str]) -> str:
    return TURN_BREAK.join(parts)
