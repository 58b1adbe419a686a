"""What the evaluation tells of each gate: the figure, and how sure it is."""

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
    """Documents, conversations or prompts: those of one cluster are alike, so this is what counts."""

    def within(self, low: float, high: float) -> Estimate:
        """Returns the same with bounds that do not go beyond where the figure can be, and never leave out its value,
        which may lie there by a rounding."""
        if self.lower is None or self.upper is None:
            return self
        lower, upper = max(low, self.lower), min(high, self.upper)
        return self._replace(lower=min(lower, self.value), upper=max(upper, self.value))

    def __str__(self) -> str:
        if self.lower is None or self.upper is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} ({self.lower:.4g} to {self.upper:.4g})"


class Figure(NamedTuple):
    """What a gate's metric came out as, of the source and slice that the gate names. Short, as an estimate is."""

    value: float | None
    """None where it could not be measured, or is not finite."""
    other: float | None = None
    """Of a gate on a regression: that of the live version, or of the base."""
    tokens: int = 0
    """Scored tokens that it rests on; 0 of what is not scored token by token."""
    reason: int | None = None
    """Place in the result's `reasons` that says why there is no value, no value of the other model, or why there are
    no bounds."""
