"""Held-out conversations as they are scored.

A conversation becomes tokens exactly as in training (`data/conversation_tokens.py`), with the template, its arguments
and the marks of the artifact, which the server renders too; scored is what would be learned: the assistant's turns but
for those of weight 0 or train false, each with the token that ends it. What the template writes into an answer (empty
marks of reasoning) is scored with it. The first token of a text is not: nothing predicts it.

An answer that ends beyond the window is left out, as training's `tooLong: Auto` does, and counted; so is one that opens
a conversation, where the template does not say where it starts. Bytes are those of what the scored turns say as their
row has it, in UTF-8: reasoning, content, and the names and arguments of calls, a line end between them. The template's
own marks cost bits and count no bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from slipway_trainer.data import lost_text
from slipway_trainer.data.answers import joined
from slipway_trainer.data.conversation_tokens import ConversationTokens
from slipway_trainer.data.rows import Conversation, Turn
from slipway_trainer.tokens import tokenizer

SHOWN = 5
"""Conversations with answers left out that are named."""
MAX_WINDOW = 2048
"""Longest input in tokens that is scored; lm-eval's default for a model that states no limit. Logits of one
window are [window, vocabulary] in float32, so a limit of 128k positions would not fit into memory."""


@dataclass(frozen=True)
class Spoken:
    """A held-out conversation."""

    row: Conversation
    source: str
    """File and line that it comes from."""


@dataclass(frozen=True)
class Texts:
    """A conversation as it is scored."""

    texts: list[tuple[list[int], list[bool]]]
    """Tokens of each text, and which of them are scored."""
    bytes: int
    """Of what the scored turns say."""
    too_long: int
    """Answers that end beyond the window."""
    unplaced: int
    """Answers of which the template does not say where they start."""
    lost: int
    """Characters of what the scored turns say that their tokens do not."""
    characters: int
    """All that could be lost."""

    @property
    def tokens(self) -> int:
        return sum(sum(learn[1:]) for _, learn in self.texts)


def as_scored(tokens: ConversationTokens, spoken: Sequence[Spoken], window: int) -> list[Texts]:
    """Returns the conversations as tokens.

    Args:
        window: longest text in tokens.

    Raises BadData where the template refuses a conversation, and BadModel.
    """
    renderings = [tokens.rendered(one.source.rpartition(":")[0], one.row, one.row.learned) for one in spoken]
    found: list[Texts] = []
    for one, texts in zip(spoken, tokens.answers(renderings), strict=True):
        kept = [[answer for answer in text if answer.end <= window] for text in texts]
        scored = [(one.row.turns[own.turn], own) for text in kept for own in text if own.turn is not None]
        lost = [lost_text.of_answer(_words(turn), tokens.said(own.tokens)) for turn, own in scored]
        placed = sum(map(len, texts))
        found.append(
            Texts(
                [joined(text) for text in kept if text],
                sum(len(turn.said.encode()) for turn, _ in scored),
                placed - sum(map(len, kept)),
                sum(one.row.learned) - placed,
                sum(own for own, _ in lost),
                sum(own for _, own in lost),
            )
        )
    return found


def _words(turn: Turn) -> str:
    """Returns what a turn says, its calls without the signs of JSON: templates write null as None, and Chinese as it is
    or as escapes."""
    calls = [[call.name, json.loads(call.arguments)] for call in turn.tool_calls]
    return "\n".join(filter(None, [turn.reasoning, turn.content, *_leaves(calls)]))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _leaves([*value.keys(), *value.values()])
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)


def named(places: Sequence[str]) -> str:
    """Returns the first of some conversations, and whether there are more."""
    return ", ".join(places[:SHOWN]) + (", …" if len(places) > SHOWN else "")


def tokens_of(words: PreTrainedTokenizerFast) -> ConversationTokens:
    """Returns what makes tokens of conversations with an artifact's tokenizer and its template."""
    return ConversationTokens(words.backend_tokenizer.to_str(), tokenizer.renderer(words))
