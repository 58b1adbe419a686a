"""Figures of parts of the held-out data: of each source and each slice, as an evaluation's report has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.records.record import Record


@dataclass(frozen=True)
class PartFigure:
    name: str
    """The source, the slice, or both."""
    metric: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    clusters: int | None = None


def of_parts(record: Record) -> list[PartFigure]:
    """Returns the figures of each source and slice; none where the report has none."""
    found = record.report.get("parts")
    return [figure for part in found for figure in _of_part(part)] if isinstance(found, list) else []


def _of_part(part: Any) -> Iterator[PartFigure]:
    if not isinstance(part, Mapping):
        return
    name = ", ".join(str(part[key]) for key in ("source", "slice") if part.get(key))
    metrics = part.get("metrics")
    for metric, told in metrics.items() if isinstance(metrics, Mapping) else ():
        if isinstance(told, Mapping):
            yield PartFigure(
                name, metric, _number(told.get("value")), _number(told.get("lower")), _number(told.get("upper")),
                int(clusters) if (clusters := _number(told.get("clusters"))) is not None else None,
            )  # fmt: skip
        else:
            yield PartFigure(name, metric, _number(told))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
