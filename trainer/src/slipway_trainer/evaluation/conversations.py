"""How well a model predicts the answers of held-out conversations, behind its own chat template.
How it is scored, and what of it, is said in `data/scored_conversations.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from slipway_core.resources.gate_metrics import CHAT_METRICS
from slipway_trainer.bounds.intervals import Array
from slipway_trainer.data import lost_text
from slipway_trainer.data.scored_conversations import Spoken, as_scored, named, tokens_of
from slipway_trainer.evaluation import perplexity
from slipway_trainer.evaluation.estimates.observed import Observed
from slipway_trainer.evaluation.perplexity import IGNORED, Compute, Window
from slipway_trainer.model.exported_model import ExportedModel


@dataclass(frozen=True)
class ChatScore:
    """Sums of each conversation, from which every figure is made: float64 [conversations]."""

    nll: Array
    tokens: Array
    bytes: Array
    not_finite: Array
    too_long: Array
    """Answers that end beyond the window."""
    unplaced: Array
    window: int
    """Longest text in tokens."""
    lost: Array
    """Characters of answers that their tokens do not say (`lost_text`)."""
    characters: Array
    """All that could be lost."""
    sources: tuple[str, ...]
    """File and line of each."""

    @property
    def observed(self) -> dict[str, Observed]:
        """What each metric is made of, conversation by conversation."""
        if self._unusable() is not None:
            return {}
        return {
            "chat_perplexity": Observed("ExpRatio", self.nll, self.tokens, text=self.bytes),
            "chat_bits_per_byte": Observed("Ratio", self.nll / math.log(2), self.bytes, text=self.bytes),
        }

    @property
    def figures(self) -> tuple[dict[str, float], dict[str, str]]:
        """Returns the metrics that are finite, and for each of the others the reason why there is none.

        chat_perplexity = exp(nll / tokens), chat_bits_per_byte = nll / (bytes ln 2).
        """
        if reason := self._unusable():
            return {}, dict.fromkeys(CHAT_METRICS, reason)
        values = {name: one.value for name, one in self.observed.items()}
        missing = {
            name: "is above the largest number; read chat_bits_per_byte instead"
            for name, value in values.items()
            if not math.isfinite(value)
        }
        return {name: value for name, value in values.items() if name not in missing}, missing

    @property
    def finite_tokens(self) -> int:
        return int(self.tokens.sum() - self.not_finite.sum())

    def of(self, within: np.ndarray) -> ChatScore:
        """Returns the same of some conversations alone: bool [conversations]."""
        arrays = {name: values[within] for name, values in vars(self).items() if isinstance(values, np.ndarray)}
        return replace(self, **arrays, sources=tuple(s for s, own in zip(self.sources, within, strict=True) if own))

    @property
    def left_out(self) -> str | None:
        """What was not scored, in a sentence; None where everything was."""
        some = np.flatnonzero(self.too_long)
        if not len(some):
            return None
        return (
            f"{int(self.too_long.sum())} answers of {len(some)} held-out conversations end beyond {self.window} tokens "
            f"and were left out ({named([self.sources[place] for place in some])}): longer texts are not scored"
        )

    def _unusable(self) -> str | None:
        if not self.tokens.sum():
            reason = self.left_out or "they have no answer whose place the chat template tells"
            return f"no token was scored of the {len(self.tokens)} held-out conversations: {reason}"
        if bad := int(self.not_finite.sum()):
            return f"the log-probability of {bad} of {int(self.tokens.sum())} tokens is NaN or infinite"
        why = lost_text.too_much(self.lost.sum(), self.characters.sum())
        return why and f"of the answers of the {len(self.tokens)} held-out conversations {why}"


def score(
    exported: ExportedModel,
    spoken: Sequence[Spoken],
    *,
    window: int | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> ChatScore:
    """Scores conversations with a model in this process.

    Args:
        window: longest text in tokens; what the model takes when None.
        advance: called with the tokens done and the tokens in all, after every batch.

    Raises ValueError when the tokenizer has no chat template, BadData when it refuses a conversation, and BadArtifact
    when the model has no row for a token.
    """
    longest = perplexity.longest_input(exported.model.config, exported.tokenizer, virtual=exported.virtual_tokens)
    used = min(window, longest) if window is not None else longest
    return score_by(perplexity.computed(exported.model), exported.tokenizer, spoken, window=used, advance=advance)


def score_by(
    compute: Compute,
    tokenizer: PreTrainedTokenizerBase,
    spoken: Sequence[Spoken],
    *,
    window: int,
    advance: Callable[[int, int], None] | None = None,
) -> ChatScore:
    """Scores conversations by whatever computes windows.

    Raises ValueError when the tokenizer has no chat template, BadData when it refuses a conversation.
    """
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer has no chat template, so conversations cannot be put to the model")
    # An input ends before the last token of its text.
    most = window + 1
    found = as_scored(tokens_of(cast(PreTrainedTokenizerFast, tokenizer)), spoken, most)
    pieces = [_window(tokens, learn, place) for place, one in enumerate(found) for tokens, learn in one.texts]
    losses = perplexity.losses_of(compute, [piece for piece in pieces if piece.scored], len(spoken), advance)
    return ChatScore(
        nll=losses.nll,
        tokens=np.array([one.tokens for one in found], np.float64),
        bytes=np.array([one.bytes for one in found], np.float64),
        not_finite=losses.not_finite,
        too_long=np.array([one.too_long for one in found], np.float64),
        unplaced=np.array([one.unplaced for one in found], np.float64),
        window=most,
        lost=np.array([one.lost for one in found], np.float64),
        characters=np.array([one.characters for one in found], np.float64),
        sources=tuple(one.source for one in spoken),
    )


def _window(tokens: list[int], learn: list[bool], place: int) -> Window:
    """Returns the window of a text. What follows the last token that is scored is left out: nothing asks for it."""
    end = max((number for number, own in enumerate(learn) if own), default=0) + 1
    targets = [token if own else IGNORED for token, own in zip(tokens[1:end], learn[1:end], strict=True)]
    return Window(tokens[: end - 1], targets, place)
