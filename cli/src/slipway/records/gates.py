"""The gates of a run as figures that can be drawn: measured, bounds, what is asked, what live and base have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from slipway.records import parts
from slipway.records.record import BASE, LIVE, Record
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import part_named
from slipway_core.resources.status import MetricStatus, Verdict

Values = Mapping[tuple[str, str], float | None]
"""By the rows that count, and the metric."""


@dataclass(frozen=True)
class GateRow:
    name: str
    """The metric, with the rows that counted where not all did."""
    metric: str
    verdict: Verdict
    threshold: str
    """What is asked, as a person reads it."""
    reason: str | None = None
    value: float | None = None
    difference: float | None = None
    """How much worse it is than what it is compared with, of a gate on a regression."""
    lower: float | None = None
    upper: float | None = None
    limit: float | None = None
    """What is asked, as a figure: of the value, or of the difference where there is one."""
    at_least: bool = False
    """Whether the figure must not be below the limit; else not above."""
    confidence: float | None = None
    clusters: int | None = None
    task: str | None = None
    live: float | None = None
    base: float | None = None
    regression: bool = False
    data: str | None = None
    """Digest of what it was measured on."""

    @property
    def drawn(self) -> float | None:
        """The figure that is held against the limit."""
        return self.difference if self.regression else self.value


def rows(record: Record) -> list[GateRow]:
    """Returns the gates that were judged, in their order; none where there is no verdict."""
    evaluation = record.evaluation
    if evaluation is None:
        return []
    gates = record.gates if len(record.gates) == len(evaluation.metrics) else [None] * len(evaluation.metrics)
    live, base = parts.values(record, LIVE), parts.values(record, BASE)
    return [_row(metric, gate, live, base) for metric, gate in zip(evaluation.metrics, gates, strict=True)]


def measured_on(metrics: Iterable[MetricStatus]) -> list[str]:
    """Returns a line for each digest of what gates were measured on: whoever requires a gate on that copies it."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.data is not None:
            found.setdefault(metric.data, []).append(metric.title)
    return [f"{digest}  {', '.join(dict.fromkeys(titles))}" for digest, titles in found.items()]


def _row(metric: MetricStatus, gate: Gate | None, live: Values, base: Values) -> GateRow:
    at = part_named(metric.source, metric.slice, metric.task), metric.name
    return GateRow(
        name=metric.title,
        metric=metric.name,
        verdict=metric.verdict,
        threshold=metric.threshold,
        reason=metric.reason,
        value=metric.value,
        difference=metric.difference,
        lower=metric.lower,
        upper=metric.upper,
        limit=_limit(gate),
        at_least=gate is not None and gate.min is not None,
        confidence=metric.confidence,
        clusters=metric.clusters,
        task=metric.task,
        # Of the rows that the gate counts: those of all rows would mislead beside a figure of some.
        live=live.get(at),
        base=base.get(at),
        regression=gate.max_regression is not None if gate is not None else metric.difference is not None,
        data=metric.data,
    )


def _limit(gate: Gate | None) -> float | None:
    if gate is None:
        return None
    return next((one for one in (gate.max, gate.min, gate.max_regression) if one is not None), None)


Kind = Literal["Passed", "Failed", "Inconclusive", "NotApplicable", "UnderWay", "Broken", "Unjudged"]


def kind(record: Record) -> Kind:
    """Returns how a run stands: what its evaluation said, or why there is none."""
    if record.evaluation is not None:
        return {
            Verdict.PASS: "Passed",
            Verdict.FAIL: "Failed",
            Verdict.INCONCLUSIVE: "Inconclusive",
            Verdict.NOT_APPLICABLE: "NotApplicable",
        }[record.evaluation.verdict]  # type: ignore[return-value]
    if record.status.phase.value == "Failed":
        return "Broken"
    return "Unjudged" if record.status.phase.finished else "UnderWay"
