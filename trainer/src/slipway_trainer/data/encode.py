"""From checked rows to tokens, and which of them are learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from slipway_core.protocol.control_tokens import NotQuotable
from slipway_core.protocol.quoted_encoder import QuotedEncoder
from slipway_core.resources.stage import TooLong
from slipway_trainer.data import answers, rows, scan, validation_split
from slipway_trainer.data.answers import Answer, joined
from slipway_trainer.data.encoded import Counts, Encoded, Output
from slipway_trainer.data.reading.block import Block
from slipway_trainer.data.rows import Conversation, Pair
from slipway_trainer.data.scan import Objective
from slipway_trainer.step.errors import BadData, BadModel, first_line
from slipway_trainer.tokens.chat_rendering import Renderer, Segment, Unrenderable

SHOWN_CHARACTERS = 40
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


@dataclass(frozen=True)
class _Rendered:
    """The texts by which a conversation is learned."""

    texts: list[list[Segment]]
    markers: int = 0
    """Control tokens that the conversation has written out; the texts have stand-ins for them."""


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
    _tokenizer: Any = field(default=None, repr=False)
    _quoted_encoder: QuotedEncoder | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_tokenizer": None, "_quoted_encoder": None}

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

    @property
    def tokenizer(self) -> Any:
        if self._tokenizer is None:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_str(self.tokenizer_json)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        return self._tokenizer

    @property
    def quoted_encoder(self) -> QuotedEncoder:
        """Made where it is needed: it takes as much memory as the tokenizer."""
        if self._quoted_encoder is None:
            from tokenizers import Tokenizer

            self._quoted_encoder = QuotedEncoder(self.renderer.control, self.tokenizer, Tokenizer.from_str)
        return self._quoted_encoder

    def _causal(self, name: str, found: list[rows.Document]) -> Any:
        aside = self._set_aside(
            _array(scan.document_key(row.text) for row in found) if self.split else None, len(found)
        )
        outputs = Output(), Output()
        encoded = self._ids([row.text for row in found], add_special_tokens=True)
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
        start = self._ids([prompt], add_special_tokens=True)[0]
        if start[-1:] == [self.eos_id]:
            start = start[:-1]
        if whole[: len(start)] == start:
            return whole, len(start)
        return [*start, *self._ids([completion])[0]], len(start)

    def _chat(self, name: str, found: list[Conversation]) -> Any:
        aside = self._set_aside(_array(map(scan.conversation_key, found)) if self.split else None, len(found))
        outputs = Output(), Output()
        renderings = [self._renderings(name, row) for row in found]
        for row, rendered, encoded, set_aside in zip(found, renderings, self._encoded(renderings), aside, strict=True):
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
        keys = validation_split.prompts(_array(map(scan.pair_key, found))) if self.split else None
        aside = self._set_aside(keys, len(found))
        outputs = Output(), Output()
        renderings = [self._renderings(name, answer) for row in found for answer in row.both]
        encoded = self._encoded(renderings)
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

    def _encoded(self, renderings: list[_Rendered]) -> Iterator[list[list[Answer]]]:
        """Yields for each conversation the texts by which it is learned, and of each its answers."""
        texts = self._answers(
            [segments for own in renderings for segments in own.texts],
            [own.markers > 0 for own in renderings for _ in own.texts],
        )
        for own in renderings:
            yield [next(texts) for _ in own.texts]

    def _answers(self, texts: list[list[Segment]], quoted: list[bool]) -> Iterator[list[Answer]]:
        """Yields the answers of each text."""
        flat = self._ids(
            [segment.text for segments in texts for segment in segments],
            quoted=[own for segments, own in zip(texts, quoted, strict=True) for _ in segments],
        )
        whole = self._ids(["".join(segment.text for segment in segments) for segments in texts], quoted=quoted)
        place = 0
        for segments, tokens, own in zip(texts, whole, quoted, strict=True):
            pieces = flat[place : place + len(segments)]
            place += len(segments)
            if list(chain.from_iterable(pieces)) != tokens:
                pieces = self._aligned(segments, tokens, own) or pieces
            found: list[Answer] = []
            prompt, end = list[int](), 0
            for segment, piece in zip(segments, pieces, strict=True):
                end += len(piece)
                if segment.learned:
                    found.append(Answer(end, prompt, piece))
                    prompt = []
                else:
                    prompt = piece
            yield found

    def _aligned(self, segments: list[Segment], tokens: list[int], quoted: bool) -> list[list[int]] | None:
        """Cuts the tokens of a whole conversation at the ends of its segments, if its tokens allow that.

        Tokenizers that put a space before a text (SentencePiece) give other tokens for a segment than for its place
        in the whole. None when a token reaches over an end; each segment is then tokenised by itself, as a prompt is
        at inference.
        """
        starts = self._ids(
            ["".join(s.text for s in segments[: end + 1]) for end in range(len(segments))],
            quoted=[quoted] * len(segments),
        )
        pieces, done = [], 0
        for start in starts:
            if tokens[: len(start)] != start:
                return None
            pieces.append(start[done:])
            done = len(start)
        return pieces

    def _renderings(self, name: str, row: Conversation) -> _Rendered:
        messages, tools, renderer, markers = row.messages, row.tools, self.renderer, 0
        try:
            if quoted := self.renderer.quoted(messages, tools):
                renderer, found = quoted
                messages, tools, markers = found.messages, found.others, found.count
            rendered = _Rendered(renderer.renderings(messages, tools=tools, learned=self._learned(row)), markers)
            self._refuse_unwritable(rendered)
        except NotQuotable as error:
            raise BadData(f"{name}:{row.line}: {error}. Take it out, or write it otherwise.") from None
        except Unrenderable as error:
            raise BadData(f"{name}:{row.line}: the model's chat template {error}.") from None
        except BadModel as error:
            raise BadModel(f"{name}:{row.line}: {error}") from None
        return rendered

    def _refuse_unwritable(self, rendered: _Rendered) -> None:
        """Raises NotQuotable here, where the line is known, and not among the texts of a whole block."""
        for segments in rendered.texts if rendered.markers else ():
            for text in ("".join(segment.text for segment in segments), *(segment.text for segment in segments)):
                self.quoted_encoder.ids(text)

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

    def _ids(
        self, texts: list[str], *, add_special_tokens: bool = False, quoted: Sequence[bool] = ()
    ) -> list[list[int]]:
        """Returns the ids of each text.

        Args:
            quoted: of each, whether it may have stand-ins for control tokens; none has when left out.
        """
        if any(quoted):
            plain = iter(self._ids([text for text, own in zip(texts, quoted, strict=True) if not own]))
            pairs = zip(texts, quoted, strict=True)
            return [self.quoted_encoder.ids(text) if own else next(plain) for text, own in pairs]
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
