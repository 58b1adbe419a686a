"""From checked rows to tokens, and which of them are learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from slipway_trainer.data import rows, scan, validation_split
from slipway_trainer.data.rows import Block, Conversation
from slipway_trainer.data.scan import Objective
from slipway_trainer.step.errors import BadData, BadModel, first_line
from slipway_trainer.tokens.chat_rendering import Renderer, Segment, Unrenderable

SHOWN_SKIPPED = 20
SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Encoded:
    """Documents, one after the other."""

    tokens: np.ndarray
    """uint32 [tokens]."""
    lengths: np.ndarray
    """int64 [documents]."""
    learn: np.ndarray | None
    """bool [tokens]; None when all are learned."""


@dataclass
class Counts:
    """What became of the rows of a split."""

    rows: int = 0
    tokens: int = 0
    learned_tokens: int = 0
    """Targets: the first token of a document is none, since nothing predicts it."""
    documents: int = 0
    split: int = 0
    """CausalLM rows longer than maxLength, which became several documents."""
    truncated: int = 0
    """Conversations that end earlier, with the last answer that fits into maxLength."""
    skipped: int = 0
    """Conversations of which no answer fits."""
    skipped_lines: list[str] = field(default_factory=list)
    """The first of them, as file:line."""
    unanswered: int = 0
    """Conversations whose last turns have no answer; those turns were left out."""
    opened: int = 0
    """Conversations that the assistant opens, and whose first turn the template does not let be learned."""

    def add(self, other: Counts) -> None:
        for name, value in vars(other).items():
            if name != "skipped_lines":
                setattr(self, name, getattr(self, name) + value)
        self.skipped_lines = (self.skipped_lines + other.skipped_lines)[:SHOWN_SKIPPED]


@dataclass(frozen=True)
class Split:
    """How rows are divided into training and validation data; without it, all go into one."""

    threshold: int
    seed: int


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
    split: Split | None = None
    _tokenizer: Any = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_tokenizer": None}

    def __call__(self, block: Block) -> tuple[tuple[Encoded, Counts], tuple[Encoded, Counts]]:
        """Raises BadData for a row that is bad or that the chat template refuses, and BadModel."""
        if self.objective == "CausalLM":
            return self._causal(rows.documents(block))
        return self._chat(block.name, rows.conversations(block))

    @property
    def tokenizer(self) -> Any:
        if self._tokenizer is None:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_str(self.tokenizer_json)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        return self._tokenizer

    def _causal(self, found: list[rows.Document]) -> Any:
        aside = self._set_aside([scan.document_key(row.text) for row in found] if self.split else None, len(found))
        outputs = _Output(), _Output()
        encoded = self._ids([row.text for row in found], add_special_tokens=True)
        for ids, output in zip(encoded, (outputs[int(a)] for a in aside), strict=True):
            tokens = ids if ids[-1:] == [self.eos_id] else [*ids, self.eos_id]
            pieces = list(_pieces(tokens, self.max_length))
            output.counts.rows += 1
            output.counts.split += len(pieces) > 1
            for piece in pieces:
                output.add(piece)
        return tuple((output.encoded(masked=False), output.counts) for output in outputs)

    def _chat(self, name: str, found: list[Conversation]) -> Any:
        aside = self._set_aside([scan.conversation_key(row) for row in found] if self.split else None, len(found))
        outputs = _Output(), _Output()
        for row, encoded, set_aside in zip(found, self._encoded(name, found), aside, strict=True):
            output = outputs[int(set_aside)]
            output.counts.rows += 1
            output.counts.unanswered += row.turns[-1].role != "assistant"
            output.counts.opened += len(encoded) < sum(turn.role == "assistant" for turn in row.turns)
            answers = [(end, tokens) for end, tokens in encoded if end <= self.max_length]
            if not answers:
                output.counts.skipped += 1
                output.counts.skipped_lines.append(f"{name}:{row.line}")
                continue
            output.counts.truncated += len(answers) < len(encoded)
            tokens, learn = [], []
            for _, (prompt, answer) in answers:
                tokens += [*prompt, *answer]
                learn += [False] * len(prompt) + [True] * len(answer)
            output.add(tokens, learn)
        return tuple((output.encoded(masked=True), output.counts) for output in outputs)

    def _encoded(self, name: str, found: list[Conversation]) -> Iterator[list[tuple[int, tuple[list[int], list[int]]]]]:
        """Yields for each conversation its answers: where each ends, the tokens of its prompt, and its own."""
        segments = [self._segments(name, row) for row in found]
        flat = self._ids([segment.text for row in segments for segment in row])
        whole = self._ids(["".join(segment.text for segment in row) for row in segments])
        place = 0
        for row, tokens in zip(segments, whole, strict=True):
            pieces = flat[place : place + len(row)]
            place += len(row)
            if list(chain.from_iterable(pieces)) != tokens:
                pieces = self._aligned(row, tokens) or pieces
            answers, prompt, end = [], [], 0
            for segment, piece in zip(row, pieces, strict=True):
                end += len(piece)
                if segment.learned:
                    answers.append((end, (prompt, piece)))
                    prompt = []
                else:
                    prompt = piece
            yield answers

    def _aligned(self, segments: list[Segment], tokens: list[int]) -> list[list[int]] | None:
        """Cuts the tokens of a whole conversation at the ends of its segments, if its tokens allow that.

        Tokenizers that put a space before a text (SentencePiece) give other tokens for a segment than for its place
        in the whole. None when a token reaches over an end; each segment is then tokenised by itself, as a prompt is
        at inference.
        """
        starts = self._ids(["".join(s.text for s in segments[: end + 1]) for end in range(len(segments))])
        pieces, done = [], 0
        for start in starts:
            if tokens[: len(start)] != start:
                return None
            pieces.append(start[done:])
            done = len(start)
        return pieces

    def _segments(self, name: str, row: Conversation) -> list[Segment]:
        try:
            return self.renderer.segments(row.messages)
        except Unrenderable as error:
            raise BadData(f"{name}:{row.line}: the model's chat template {error}.") from None
        except BadModel as error:
            raise BadModel(f"{name}:{row.line}: {error}") from None

    def _ids(self, texts: list[str], *, add_special_tokens: bool = False) -> list[list[int]]:
        try:
            encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
        except Exception as error:
            # The tokenizers library raises bare Exception, as for a word that a tokenizer without [UNK] has not.
            raise BadModel(
                f"the tokenizer cannot encode {self._first_unencodable(texts)}: {first_line(error)}"
            ) from None
        return [found.ids for found in encodings]

    def _first_unencodable(self, texts: list[str]) -> str:
        for text in texts:
            try:
                self.tokenizer.encode(text)
            except Exception:
                return f"the text that begins with {text[:SHOWN_CHARACTERS]!r}"
        return "these texts"

    def _set_aside(self, keys: list[int] | None, count: int) -> np.ndarray:
        if keys is None or self.split is None:
            return np.zeros(count, bool)
        found = np.array(keys, np.uint64)
        return validation_split.set_aside(found, threshold=self.split.threshold, seed=self.split.seed)


class _Output:
    def __init__(self) -> None:
        self.counts = Counts()
        self._tokens: list[int] = []
        self._lengths: list[int] = []
        self._learn: list[bool] = []

    def add(self, tokens: list[int], learn: list[bool] | None = None) -> None:
        self._tokens += tokens
        self._lengths.append(len(tokens))
        self._learn += learn or []
        self.counts.documents += 1
        self.counts.tokens += len(tokens)
        self.counts.learned_tokens += len(tokens) - 1 if learn is None else sum(learn[1:])

    def encoded(self, *, masked: bool) -> Encoded:
        return Encoded(
            tokens=np.array(self._tokens, np.uint32),
            lengths=np.array(self._lengths, np.int64),
            learn=np.array(self._learn, bool) if masked else None,
        )


def _pieces(tokens: list[int], longest: int) -> Iterator[list[int]]:
    """Cuts a document; a piece starts with the last token of the one before, so that every token is learned once."""
    if len(tokens) <= longest:
        yield tokens
        return
    for start in range(0, len(tokens) - 1, longest - 1):
        yield tokens[start : start + longest]
