"""What a judge model said of a model's answers, prompt by prompt: metrics beside those that are computed of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from slipway_trainer.evaluation.estimates.observed import Observed


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

    def missing(self, within: np.ndarray) -> str | None:
        """Returns why there is no figure of some prompts; None where there is one.

        Args:
            within: bool [prompts], which of them count.
        """
        if self.nothing is not None or self.observed is None:
            return self.nothing or "the judge was not asked"
        without = [number for number in sorted(self.unanswered) if within[number]]
        if not without:
            return None if (self.observed.told & within).any() else "the judge was asked about no prompt of these"
        asked = len(without) + int((self.observed.told & within).sum())
        return f"{len(without)} of {asked} prompts have no usable answer of the judge, such as {self._first(without)}"

    def _first(self, without: list[int]) -> str:
        return self.unanswered[without[0]]


Opinions = Mapping[str, Opinion]
"""By the metric."""
