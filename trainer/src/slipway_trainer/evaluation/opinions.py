"""What a judge model said of a model's answers, prompt by prompt: metrics beside those that are computed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from slipway_trainer.evaluation.estimates.observed import Observed


@dataclass(frozen=True)
class Agreement:
    """How far a judge says the same of the same, in one respect."""

    of: str
    """In which: both orders of a pair, or repeats of a question."""
    sums: np.ndarray
    """float64 [prompts], what agrees, from 0 to 1 each, added up."""
    sizes: np.ndarray
    """float64 [prompts], how much was compared."""

    def share(self, within: np.ndarray | None = None) -> float | None:
        """Returns what agrees of what was compared, from 0 to 1; None where nothing was.

        Args:
            within: bool [prompts], which of them count; all when None.
        """
        sums, sizes = (self.sums, self.sizes) if within is None else (self.sums[within], self.sizes[within])
        return float(sums.sum() / sizes.sum()) if sizes.sum() > 0 else None


@dataclass(frozen=True)
class Opinion:
    """One metric. A prompt that nobody asked about tells nothing; one without an answer of the judge takes the figure
    from whatever counts it: it is never dropped in silence."""

    observed: Observed | None = None
    """Of all prompts, in their order."""
    unanswered: Mapping[int, str] = field(default_factory=dict[int, str])
    """By the number of the prompt, from 0 on, why the judge said nothing that can be used."""
    nothing: str | None = None
    """Why there is no figure at all."""
    agreements: Sequence[Agreement] = ()
    least: float = 0.0
    """Agreement below which there is no figure: evaluation.judge.minAgreement."""
    of_pairs: Sequence[Agreement] = ()
    """Of marks, how far the same judge agrees with itself where it compares answers."""
    worthless: str | None = None
    """Why nothing counts that the judge says of it, where what it says elsewhere tells that."""
    beside: np.ndarray | None = None
    """Of another model than the candidate, bool [prompts]: those of the candidate's figure. Of fewer there is no
    figure, since it would be taken for one of the same prompts."""
    no_answers: bool = False
    """Whether there is nothing since the model that is judged has no answers."""

    def missing(self, within: np.ndarray) -> str | None:
        """Returns why there is no figure of some prompts; None where there is one.

        Args:
            within: bool [prompts], which of them count.
        """
        if self.nothing is not None or self.observed is None:
            return self.nothing or "the judge was not asked"
        told = int((self.observed.told & within).sum())
        without = [number for number in sorted(self.unanswered) if within[number]]
        if without:
            first = self.unanswered[without[0]]
            return (
                f"{len(without)} of {len(without) + told} prompts have no usable answer of the judge, such as {first}"
            )
        if not told:
            return "the judge was asked about no prompt of these"
        if self.beside is not None and (self.beside & within & ~self.observed.told).any():
            return "the judge was asked about those of these prompts alone that a gate compares"
        return self.contradiction(within) or self.worthless

    def silent(self, within: np.ndarray, *, nobody_there: bool) -> bool:
        """Whether there is no figure of some prompts since the judge's server was never there, or what the model is
        compared with was not measured.

        All else may come of what the model said: a question that is refused, or answered too late, among others that
        are answered; a reply that cannot be used; a contradiction; marks that are all alike.

        Args:
            within: bool [prompts], which of them count.
            nobody_there: whether the server was there for not one question of the evaluation.
        """
        if self.nothing is not None:
            return not self.no_answers
        return nobody_there and any(within[number] for number in self.unanswered)

    def contradiction(self, within: np.ndarray | None = None) -> str | None:
        """Returns how the judge contradicts itself where that is too often; None where it is not.

        Args:
            within: bool [prompts], which of them count; all when None.
        """
        for one in (*self.agreements, *self.of_pairs):
            share = one.share(within)
            if share is not None and share < self.least:
                return (
                    f"the judge contradicts itself: the agreement of {one.of} is {share:.2f}, and "
                    f"evaluation.judge.minAgreement asks for {self.least:g}. Give it clearer criteria, or ask another, "
                    "in a run of another name: what it answered is kept"
                )
        return None


Opinions = Mapping[str, Opinion]
"""By the metric."""
