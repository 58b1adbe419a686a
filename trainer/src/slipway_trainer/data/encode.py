"""From checked rows to tokens, and which of them are learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from slipway_core.resources.stage import TooLong
from slipway_trainer.data import answers, rows, scan, validation_split
from slipway_trainer.data.answers import joined
from slipway_trainer.data.conversation_tokens import ConversationTokens
from slipway_trainer.data.encoded import Counts, Encoded, Output
from slipway_trainer.data.reading.block import Block
from slipway_trainer.data.rows import Conversation, Pair
from slipway_trainer.data.scan import Objective
from slipway_trainer.step.errors import BadData
from slipway_trainer.tokens.chat_rendering import Renderer

SHOWN_LEFT_OUT = 100
"""Characters of a row that is left out for another one."""


@dataclass(frozen=True)
class Split:
    """How rows are divided into training and validation data; without it, all go into one."""

    threshold: int
    seed: int


@dataclass(frozen=True)
class Job:
    """A block, and which of its rows are left out since others say the same."""

    block: Block
    left_out: np.ndarray | None = None
    """bool [rows]; None where all stay."""


@dataclass
class Encoder:
    """Called with blocks of a file; can be sent to other processes.

    Returns a pair for training and validation data; without a split the second has no rows.
    """

    tokenizer_json: str
    renderer: Renderer
    objective: Objective
    max_length: int
    eos_id: int
    too_long: TooLong = "Auto"
    last_answer: bool = False
    """Whether the last answer of a conversation alone is learned."""
    masked: bool = True
    """Whether some of the stage's tokens are not learned."""
    split: Split | None = None
    _tokens: ConversationTokens = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._tokens = ConversationTokens(self.tokenizer_json, self.renderer)

    def __call__(self, block: Block) -> tuple[tuple[Encoded, Counts], tuple[Encoded, Counts]]:
        """Raises BadData for a row that is bad or that the chat template refuses, and BadModel."""
        return self.deduplicated(Job(block))[0]

    def deduplicated(self, job: Job) -> tuple[tuple[tuple[Encoded, Counts], tuple[Encoded, Counts]], list[str]]:
        """Returns the same of the rows that stay, and how each of the others begins."""
        block = job.block
        if self.objective == "CausalLM":
            texts, left = _without(rows.documents(block), job.left_out)
            return self._causal(block.name, texts), [row.text[:SHOWN_LEFT_OUT] for row in left]
        if self.objective == "Preference":
            pairs, left = _without(rows.pairs(block), job.left_out)
            return self._pairs(block.name, pairs), [_begins(row.together) for row in left]
        found, left = _without(rows.conversations(block), job.left_out)
        return self._chat(block.name, found), [_begins(row) for row in left]

    def _causal(self, name: str, found: list[rows.Document]) -> Any:
        aside = self._set_aside(
            _array(scan.document_key(row.text) for row in found) if self.split else None, len(found)
        )
        outputs = Output(), Output()
        encoded = self._tokens.ids([row.text for row in found], add_special_tokens=True)
        for row, ids, output in zip(found, encoded, (outputs[int(a)] for a in aside), strict=True):
            ids, seen = self._after_prompt(row.text[: row.prompt], row.text[row.prompt :], ids)
            tokens = ids if ids[-1:] == [self.eos_id] else [*ids, self.eos_id]
            output.start(row, len(tokens))
            if len(tokens) > self.max_length:
                if self.too_long == "Refuse":
                    raise self._refused(name, row.line, len(tokens))
                if self.too_long == "Drop":
                    output.counts.dropped += 1
                    continue
                if self.too_long == "Truncate":
                    output.counts.truncated += 1
                    tokens = tokens[: self.max_length]
            pieces = list(_pieces(tokens, self.max_length))
            output.counts.split += len(pieces) > 1
            for start, piece in pieces:
                learn = [place >= seen for place in range(start, start + len(piece))] if self.masked else None
                output.add(piece, learn)
        return tuple((output.encoded(masked=self.masked), output.counts) for output in outputs)

    def _after_prompt(self, prompt: str, completion: str, whole: list[int]) -> tuple[list[int], int]:
        """Returns the tokens of a text, and how many of them are its prompt's.

        Where a token reaches over the end of the prompt, both parts are tokenised by themselves, as at inference.
        """
        if not prompt:
            return whole, 0
        start = self._tokens.ids([prompt], add_special_tokens=True)[0]
        if start[-1:] == [self.eos_id]:
            start = start[:-1]
        if whole[: len(start)] == start:
            return whole, len(start)
        return [*start, *self._tokens.ids([completion])[0]], len(start)

    def _chat(self, name: str, found: list[Conversation]) -> Any:
        aside = self._set_aside(_array(map(scan.conversation_key, found)) if self.split else None, len(found))
        outputs = Output(), Output()
        renderings = [self._tokens.rendered(name, row, self._learned(row)) for row in found]
        for row, rendered, encoded, set_aside in zip(
            found, renderings, self._tokens.answers(renderings), aside, strict=True
        ):
            output = outputs[int(set_aside)]
            output.start(row, max((text[-1].end for text in encoded), default=0))
            output.counts.markers += rendered.markers
            output.counts.unanswered += row.turns[-1].role != "assistant"
            output.counts.opened += sum(map(len, encoded)) < sum(self._learned(row))
            output.counts.apart += len(encoded) - 1
            texts = [[answer for answer in text if answer.end <= self.max_length] for text in encoded]
            if texts != encoded and self.too_long == "Refuse":
                raise self._refused(name, row.line, max(text[-1].end for text in encoded))
            if texts != encoded and self.too_long == "Drop":
                output.counts.dropped += 1
                continue
            if not any(texts):
                output.counts.skipped += 1
                output.counts.skipped_lines.append(f"{name}:{row.line}")
                continue
            output.counts.truncated += sum(map(len, texts)) < sum(map(len, encoded))
            for text in texts:
                tokens, learn = joined(text)
                if tokens:
                    output.add(tokens, learn)
        return tuple((output.encoded(masked=True), output.counts) for output in outputs)

    def _pairs(self, name: str, found: list[Pair]) -> Any:
        """A pair is one document, the chosen text before the rejected one: whole, or not at all."""
        keys = (
            validation_split.prompts(_array(scan.conversation_key(row.together) for row in found))
            if self.split
            else None
        )
        aside = self._set_aside(keys, len(found))
        outputs = Output(), Output()
        renderings = [
            self._tokens.rendered(name, answer, self._learned(answer)) for row in found for answer in row.both
        ]
        encoded = self._tokens.answers(renderings)
        for number, (row, set_aside) in enumerate(zip(found, aside, strict=True)):
            output = outputs[int(set_aside)]
            pair = answers.of_pair(f"{name}:{row.line}", next(encoded), next(encoded))
            output.start(row, len(pair.tokens))
            output.counts.markers += sum(own.markers for own in renderings[2 * number : 2 * number + 2])
            if len(pair.tokens) <= self.max_length:
                output.add(pair.tokens, pair.learn, chosen=pair.chosen)
            elif self.too_long == "Refuse":
                raise self._refused(name, row.line, len(pair.tokens))
            else:
                output.counts.dropped += 1
        return tuple((output.encoded(masked=True, paired=True), output.counts) for output in outputs)

    def _learned(self, row: Conversation) -> list[bool]:
        found = row.learned
        if not self.last_answer:
            return found
        last = max(number for number, learned in enumerate(found) if learned)
        return [number == last for number in range(len(found))]

    def _refused(self, name: str, line: int, tokens: int) -> BadData:
        return BadData(
            f"{name}:{line}: the row takes {tokens} tokens and maxLength is {self.max_length}. Raise maxLength, "
            "shorten the row, or say with tooLong what is to become of such rows."
        )

    def _set_aside(self, keys: np.ndarray | None, count: int) -> np.ndarray:
        if keys is None or self.split is None:
            return np.zeros(count, bool)
        return validation_split.set_aside(keys, threshold=self.split.threshold, seed=self.split.seed)


def _array(keys: Iterable[int]) -> np.ndarray:
    return np.array(list(keys), np.uint64)


Row = TypeVar("Row")


def _without(found: list[Row], left_out: np.ndarray | None) -> tuple[list[Row], list[Row]]:
    """Returns the rows that stay, and those that are left out."""
    if left_out is None:
        return found, []
    marked = list(zip(found, left_out.tolist(), strict=True))
    return [row for row, gone in marked if not gone], [row for row, gone in marked if gone]


def _begins(row: Conversation) -> str:
    """What is asked first is what tells conversations apart for a person."""
    asked = next((turn for turn in row.turns if turn.role == "user"), row.turns[0])
    return asked.said[:SHOWN_LEFT_OUT]


def _pieces(tokens: list[int], longest: int) -> Iterator[tuple[int, list[int]]]:
    """Cuts a document, and says where each piece starts: with the last token of the one before, so that every token is
    learned once."""
    if len(tokens) <= longest:
        yield 0, tokens
        return
    for start in range(0, len(tokens) - 1, longest - 1):
        yield start, tokens[start : start + longest]
