"""What the report of an evaluation says of its judge model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.records.record import Record, numbers
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.judge import criteria_digest


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
    compare: str | None
    """What win_rate compared with."""
    repeats: int
    criteria: str
    """Digest of the words by which it judged, as the signed statement has it."""
    controls: Sequence[tuple[int, int]]
    """Of each kind of question where it found nearly all alike: how many misplaced answers it told from the right ones,
    and how many it was shown."""
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
    controls: Any = told.get("controls")
    shown = [numbers(one) for one in controls.values()] if isinstance(controls, Mapping) else []
    number = record.evaluation.number if record.evaluation is not None else 0
    return JudgeRecord(
        model=str(told.get("model")),
        url=str(told.get("url")),
        questions=int(counts.get("questions", 0)),
        unanswered=int(counts.get("unanswered", 0)),
        agreed=[_agreed(str(of), one) for of, one in agreement.items()] if isinstance(agreement, Mapping) else [],
        compare=str(told["compare"]) if told.get("compare") else None,
        repeats=int(counts.get("repeats", 1)),
        criteria=criteria_digest(str(told.get("criteria"))),
        controls=[(int(one.get("told_apart", 0)), int(one.get("shown", 0))) for one in shown],
        trouble=str(troubles[0]) if isinstance(troubles, list) and troubles else None,
        transcript=str(Workspace(Path()).judge(number)),
    )


def _agreed(of: str, shares: Any) -> Agreed:
    found = numbers(shares)
    return Agreed(of, found.get("orders"), found.get("repeats"))
