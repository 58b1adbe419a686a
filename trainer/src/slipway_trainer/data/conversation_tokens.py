"""Conversations as the tokens by which they are learned, and by which held-out ones are scored: what a model learns to
say and what it is judged by cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from slipway_core.protocol.control_tokens import NotQuotable
from slipway_core.protocol.quoted_encoder import QuotedEncoder
from slipway_trainer.data.answers import Answer
from slipway_trainer.data.rows import Conversation
from slipway_trainer.step.errors import BadData, BadModel, first_line
from slipway_trainer.tokens.chat_rendering import Renderer, Segment, Unrenderable

SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Rendered:
    """The texts by which a conversation is learned."""

    texts: list[list[Segment]]
    markers: int = 0
    """Control tokens that the conversation has written out; the texts have stand-ins for them."""


@dataclass
class ConversationTokens:
    """Of one tokenizer and its template; can be sent to other processes."""

    tokenizer_json: str
    renderer: Renderer
    _tokenizer: Any = field(default=None, repr=False)
    _quoted_encoder: QuotedEncoder | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_tokenizer": None, "_quoted_encoder": None}

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

    def said(self, tokens: list[int]) -> str:
        """Returns the text of tokens."""
        return self.tokenizer.decode(tokens, skip_special_tokens=False)

    def answers(self, renderings: list[Rendered]) -> Iterator[list[list[Answer]]]:
        """Yields for each conversation the texts by which it is learned, and of each its answers."""
        texts = self._answers(
            [segments for own in renderings for segments in own.texts],
            [own.markers > 0 for own in renderings for _ in own.texts],
        )
        for own in renderings:
            yield [next(texts) for _ in own.texts]

    def _answers(self, texts: list[list[Segment]], quoted: list[bool]) -> Iterator[list[Answer]]:
        """Yields the answers of each text."""
        flat = self.ids(
            [segment.text for segments in texts for segment in segments],
            quoted=[own for segments, own in zip(texts, quoted, strict=True) for _ in segments],
        )
        whole = self.ids(["".join(segment.text for segment in segments) for segments in texts], quoted=quoted)
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
                    found.append(Answer(end, prompt, piece, segment.turn))
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
        starts = self.ids(
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

    def rendered(self, name: str, row: Conversation, learned: Sequence[bool]) -> Rendered:
        """Returns the texts by which a conversation is learned.

        Args:
            name: of its file, for errors.
            learned: of each turn, whether it is learned if it is the assistant's.

        Raises BadData where the template refuses it, and BadModel.
        """
        messages, tools, renderer, markers = row.messages, row.tools, self.renderer, 0
        try:
            if quoted := self.renderer.quoted(messages, tools):
                renderer, found = quoted
                messages, tools, markers = found.messages, found.others, found.count
            rendered = Rendered(renderer.renderings(messages, tools=tools, learned=learned), markers)
            self._refuse_unwritable(rendered)
        except NotQuotable as error:
            raise BadData(f"{name}:{row.line}: {error}. Take it out, or write it otherwise.") from None
        except Unrenderable as error:
            raise BadData(f"{name}:{row.line}: the model's chat template {error}.") from None
        except BadModel as error:
            raise BadModel(f"{name}:{row.line}: {error}") from None
        return rendered

    def _refuse_unwritable(self, rendered: Rendered) -> None:
        """Raises NotQuotable here, where the line is known, and not among the texts of a whole block."""
        for segments in rendered.texts if rendered.markers else ():
            for text in ("".join(segment.text for segment in segments), *(segment.text for segment in segments)):
                self.quoted_encoder.ids(text)

    def ids(
        self, texts: list[str], *, add_special_tokens: bool = False, quoted: Sequence[bool] = ()
    ) -> list[list[int]]:
        """Returns the ids of each text.

        Args:
            quoted: of each, whether it may have stand-ins for control tokens; none has when left out.
        """
        if any(quoted):
            plain = iter(self.ids([text for text, own in zip(texts, quoted, strict=True) if not own]))
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
