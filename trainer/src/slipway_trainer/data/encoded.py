"""What rows become: the tokens of a split, one document after the other, and what is counted of the rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slipway_trainer.data import rows
from slipway_trainer.data.rows import Conversation, Pair

SHOWN_SKIPPED = 20


@dataclass(frozen=True)
class Encoded:
    """Documents, one after the other."""

    tokens: np.ndarray
    """uint32 [tokens]."""
    lengths: np.ndarray
    """int64 [documents]."""
    learn: np.ndarray | None
    """bool [tokens]; None when all are learned."""
    whole: np.ndarray
    """int64 [rows]: tokens of each row as it stands in its file, before any are cut; of a conversation that takes
    several texts those of the longest."""
    lines: np.ndarray
    """int64 [rows]: line of each row."""
    became: np.ndarray
    """int64 [rows]: how many of the documents each row became."""
    chosen: np.ndarray | None = None
    """int64 [documents]: of pairs of answers, the tokens of the chosen text, which stands first; None of others."""

    @property
    def text_lengths(self) -> np.ndarray:
        """Returns the tokens of each text (int64): a pair of answers is two."""
        if self.chosen is None:
            return self.lengths
        return np.stack([self.chosen, self.lengths - self.chosen], axis=1).reshape(-1)


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
    """Rows that end earlier: conversations with the last answer that fits into maxLength, texts where it is reached."""
    dropped: int = 0
    """Rows longer than maxLength, which the stage leaves out."""
    skipped: int = 0
    """Conversations of which no answer fits."""
    skipped_lines: list[str] = field(default_factory=list)
    """The first of them, as file:line."""
    unanswered: int = 0
    """Conversations whose last turns have no answer; those turns were left out."""
    apart: int = 0
    """Texts that conversations take beyond one each: answers that are learned in a rendering of their own, since the
    template renders the start of a conversation otherwise than its whole."""
    opened: int = 0
    """Conversations that the assistant opens, and whose first turn the template does not let be learned."""
    normalized: int = 0
    """Rows that data.normalization changed."""
    normalized_by: dict[str, int] = field(default_factory=dict[str, int])
    """Of them, those that each form changed; several may have changed one."""
    markers: int = 0
    """Control tokens that turns of conversations, or tools, have written out, such as `</s>`: they are text there."""

    def add(self, other: Counts) -> None:
        for name, value in vars(other).items():
            if name not in ("skipped_lines", "normalized_by"):
                setattr(self, name, getattr(self, name) + value)
        for form, rows_changed in other.normalized_by.items():
            self.normalized_by[form] = self.normalized_by.get(form, 0) + rows_changed
        self.skipped_lines = (self.skipped_lines + other.skipped_lines)[:SHOWN_SKIPPED]

    def saw(self, row: rows.Document | Conversation | Pair) -> None:
        """Counts a row, whatever becomes of it."""
        self.rows += 1
        self.normalized += bool(row.normalized)
        for form in row.normalized:
            self.normalized_by[form] = self.normalized_by.get(form, 0) + 1


class Output:
    """The documents of a split as they are made."""

    def __init__(self) -> None:
        self._chosen: list[int] = []
        self.counts = Counts()
        self._tokens: list[int] = []
        self._lengths: list[int] = []
        self._learn: list[bool] = []
        self._whole: list[int] = []
        self._lines: list[int] = []
        self._became: list[int] = []

    def start(self, row: rows.Document | Conversation | Pair, tokens: int) -> None:
        """Begins a row, of which as many tokens stand in its file."""
        self.counts.saw(row)
        self._whole.append(tokens)
        self._lines.append(row.line)
        self._became.append(0)

    def add(self, tokens: list[int], learn: list[bool] | None = None, *, chosen: int | None = None) -> None:
        if chosen is not None:
            self._chosen.append(chosen)
        self._tokens += tokens
        self._lengths.append(len(tokens))
        self._became[-1] += 1
        self._learn += learn or []
        self.counts.documents += 1
        self.counts.tokens += len(tokens)
        self.counts.learned_tokens += len(tokens) - 1 if learn is None else sum(learn[1:])

    def encoded(self, *, masked: bool, paired: bool = False) -> Encoded:
        return Encoded(
            tokens=np.array(self._tokens, np.uint32),
            lengths=np.array(self._lengths, np.int64),
            learn=np.array(self._learn, bool) if masked else None,
            whole=np.array(self._whole, np.int64),
            lines=np.array(self._lines, np.int64),
            became=np.array(self._became, np.int64),
            chosen=np.array(self._chosen, np.int64) if paired else None,
        )
