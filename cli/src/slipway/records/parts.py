"""Figures of parts of the held-out data: of each source and each slice, as an evaluation's report has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.records.gates import BASE, LIVE
from slipway.records.record import Record

_OWN = "candidate"


@dataclass(frozen=True)
class PartFigure:
    name: str
    """The source, the slice, or both."""
    metric: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    clusters: int | None = None
    live: float | None = None
    base: float | None = None


def of_parts(record: Record) -> list[PartFigure]:
    """Returns the figures of each source and slice beside those of other models; none where the report has none."""
    live, base = (_values(record, key) for key in (LIVE, BASE))
    return [
        PartFigure(
            name,
            metric,
            _number(told.get("value")),
            _number(told.get("lower")),
            _number(told.get("upper")),
            clusters if isinstance(clusters := told.get("clusters"), int) else None,
            live.get((name, metric)),
            base.get((name, metric)),
        )
        for name, metric, told in _figures(record, _OWN)
    ]


def _values(record: Record, model: str) -> dict[tuple[str, str], float | None]:
    return {(name, metric): _number(told.get("value")) for name, metric, told in _figures(record, model)}


def _figures(record: Record, model: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yields part, metric, and what is told of it."""
    other = record.report.get(model)
    found = other.get("scopes") if isinstance(other, Mapping) else None
    for part in found if isinstance(found, list) else ():
        metrics = part.get("metrics") if isinstance(part, Mapping) else None
        for metric, told in metrics.items() if isinstance(metrics, Mapping) else ():
            if isinstance(told, Mapping):
                yield ", ".join(str(part[key]) for key in ("source", "slice") if part.get(key)), str(metric), told


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
