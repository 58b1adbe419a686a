"""How sure a figure is, as the evaluation tells it for each gate."""

from __future__ import annotations

from typing import NamedTuple


class Estimate(NamedTuple):
    """A figure with its bounds. Short, since 32 of them must fit into a result."""

    value: float
    """What was measured; of a gate on a regression, how much worse than live it is, in the metric's own unit."""
    lower: float | None
    """Below it with the gate's confidence the true figure is not. None for what has no bounds, such as the share of a
    fixed list that was recalled."""
    upper: float | None
    """The same above."""
    n: int
    """Tokens, bytes, words or answers that it rests on."""
    clusters: int
    """Documents or prompts: those of one cluster are alike, so this is what counts."""

    def __str__(self) -> str:
        if self.lower is None or self.upper is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} ({self.lower:.4g} to {self.upper:.4g})"
