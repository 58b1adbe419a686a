"""What a gate asked, in figures: a status records it and a statement signs it, and both have these fields."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slipway_core.resources.api import Api


class AskedFigures(Api):
    """Written once: a figure that a status has and a statement has not would let a weaker gate through, or hold back a
    strong one."""

    max: float | None = None
    min: float | None = None
    max_regression: float | None = None
    against: Annotated[str, Field(max_length=16)] | None = None
    """What it compares with: of maxRegression Live when left out, of win_rate what the judge's `compare` says."""
    min_tokens: int = 1
    confidence: float | None = None
    """None took the figure as it is."""
