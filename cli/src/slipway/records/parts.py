"""Figures of parts of the held-out data: of each source, slice and task, as an evaluation's report has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from slipway.records.record import BASE, LIVE, Record
from slipway_core.resources.gate_metrics import part_named

_OWN = "candidate"


@dataclass(frozen=True)
class PartFigure:
    name: str
    """The source, the slice, or both, or the task."""
    metric: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    clusters: int | None = None
    live: float | None = None
    base: float | None = None


def of_parts(record: Record) -> list[PartFigure]:
    """Returns the figures of each source, slice and task beside those of other models."""
    live, base = values(record, LIVE), values(record, BASE)
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


def values(record: Record, model: str) -> dict[tuple[str, str], float | None]:
    """Returns the figures of the model that stands in the report under a key, by the part and the metric; those of all
    rows under the part ""."""
    whole = {("", metric): value for metric, value in record.beside(model).items()}
    return whole | {(name, metric): _number(told.get("value")) for name, metric, told in _figures(record, model)}


def _figures(record: Record, model: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yields part, metric, and what is told of it."""
    other = record.report.get(model)
    found = [other.get(key) for key in ("scopes", "tasks")] if isinstance(other, Mapping) else []
    for part in chain.from_iterable(one for one in found if isinstance(one, list)):
        metrics = part.get("metrics") if isinstance(part, Mapping) else None
        for metric, told in metrics.items() if isinstance(metrics, Mapping) else ():
            if isinstance(told, Mapping):
                source, slice, task = (str(part.get(key) or "") for key in ("source", "slice", "task"))
                yield part_named(source, slice, task), str(metric), told


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
