"""A model as tasks of lm-evaluation-harness ask it, by whichever engine judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from transformers import PreTrainedTokenizerBase

from slipway_trainer.evaluation import continuations
from slipway_trainer.evaluation.continuations import Advance, Compute
from slipway_trainer.evaluation.generation import GoOn

_FIRST_TOKENS: Final = 32
_GROWS: Final = 4
"""Answers are written in rounds, each so many times as long as the one before: where one stops is told by text, which
engines know differently, and most stop early."""


class TaskModel:
    def __init__(
        self,
        compute: Compute,
        go_on: GoOn,
        words: PreTrainedTokenizerBase,
        ends: Sequence[int],
        *,
        longest: int,
        window: int,
        advance: Advance | None = None,
    ) -> None:
        """
        Args:
            longest: tokens of a context and its answer.
            window: longest input of which likelihoods are computed.
        """
        self._compute, self._go_on, self._words, self._ends = compute, go_on, words, frozenset(ends)
        self._longest, self._window, self._advance = longest, window, advance

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """Raises ValueError as `continuations.likelihoods` does, and where one is not finite: of choices that are all
        NaN the harness takes the first, and a broken model would have the share of those that are right."""
        found = continuations.likelihoods(self._compute, self._words, pairs, window=self._window, advance=self._advance)
        if bad := sum(not math.isfinite(one.log) for one in found):
            raise ValueError(f"the log-likelihood of {bad} of {len(found)} answers is NaN or infinite")
        return [(one.log, one.greedy) for one in found]

    def writings(self, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Returns what follows each context, until one of the texts that end it.

        Args:
            asked: contexts, each with `until`, those texts, and `tokens`, the most that are written.

        Raises ValueError where the model has no room for an answer.
        """
        contexts: list[list[int]] = []
        for context, how in asked:
            room = self._longest - int(how["tokens"])
            if room <= 0:
                raise ValueError(
                    f"the task has answers of up to {how['tokens']} tokens, and the model takes {self._longest} with "
                    "what they answer"
                )
            contexts.append(continuations.encoded(self._words, context)[-room:])
        made: list[list[int]] = [[] for _ in asked]
        texts = ["" for _ in asked]
        left, most = list(range(len(asked))), _FIRST_TOKENS
        while left:
            rooms = [min(most, int(asked[number][1]["tokens"]) - len(made[number])) for number in left]
            rows = [contexts[number] + made[number] for number in left]
            stopped: set[int] = set()
            for batch, new in self._go_on(rows, rooms):
                for place, tokens in zip(batch, new, strict=True):
                    number = left[place]
                    end = next((at for at, token in enumerate(tokens) if token in self._ends), None)
                    made[number] += tokens[:end]
                    texts[number], stops = self._cut(made[number], asked[number][1]["until"])
                    if stops or end is not None or len(made[number]) >= int(asked[number][1]["tokens"]):
                        stopped.add(number)
            left = [number for number in left if number not in stopped]
            most *= _GROWS
            if self._advance:
                self._advance(len(asked) - len(left), len(asked))
        return texts

    def _cut(self, tokens: list[int], until: Sequence[str]) -> tuple[str, bool]:
        """Returns what was written before the first text that ends it, and whether there is one."""
        # A control token that ends an answer is looked for where it can be seen.
        seen = str(self._words.decode(tokens))
        text = str(self._words.decode(tokens, skip_special_tokens=True))
        stops = any(stop and stop in seen for stop in until)
        for stop in until:
            if stop:
                text = text.split(stop)[0]
        return text, stops
