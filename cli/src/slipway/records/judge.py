"""What the report of an evaluation says of its judge model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.records.record import Record, numbers
from slipway_core.protocol.workspace import Workspace


@dataclass(frozen=True)
class Agreed:
    """How far the judge agrees with itself."""

    of: str
    """The metric, and whose."""
    orders: float | None
    """Share of the pairs that came out alike in both orders."""
    repeats: float | None
    """How near the repeats of a question are to each other, from 0 to 1."""


@dataclass(frozen=True)
class JudgeRecord:
    model: str
    url: str
    questions: int
    unanswered: int
    agreed: Sequence[Agreed]
    trouble: str | None
    """Why the first of those without a usable answer has none."""
    transcript: str
    """Below the folder of the run: what was sent, and what was answered."""


def of_record(record: Record) -> JudgeRecord | None:
    """Returns what there is to say; None of an evaluation without a judge."""
    told = record.report.get("judge")
    if not isinstance(told, Mapping):
        return None
    counts = numbers(told)
    troubles: Any = told.get("troubles")
    agreement: Any = told.get("agreement")
    number = record.evaluation.number if record.evaluation is not None else 0
    return JudgeRecord(
        model=str(told.get("model")),
        url=str(told.get("url")),
        questions=int(counts.get("questions", 0)),
        unanswered=int(counts.get("unanswered", 0)),
        agreed=[_agreed(str(of), one) for of, one in agreement.items()] if isinstance(agreement, Mapping) else [],
        trouble=str(troubles[0]) if isinstance(troubles, list) and troubles else None,
        transcript=str(Workspace(Path()).judge(number)),
    )


def _agreed(of: str, shares: Any) -> Agreed:
    found = numbers(shares)
    return Agreed(of, found.get("orders"), found.get("repeats"))
