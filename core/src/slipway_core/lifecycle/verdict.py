"""The quality gate: what was measured, held against what was asked for.

A metric that is missing, not finite, or rests on too few tokens is inconclusive. It never passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import HIGHER_IS_BETTER, TEXT_METRICS
from slipway_core.resources.status import MetricStatus, Verdict, fit

BASELINE = "baseline"
"""Key of `missing` that says why the live version has no metrics."""


@dataclass(frozen=True)
class Measured:
    """What one evaluation found out."""

    metrics: Mapping[str, float]
    scored_tokens: int = 0
    missing: Mapping[str, str] | None = None
    """Why a metric is not there."""
    baseline: Mapping[str, float] | None = None
    """The live version's metrics on the same data; None when no version is live."""


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    metrics: tuple[MetricStatus, ...]

    @property
    def reason(self) -> str:
        """What decided, in one sentence a gate: the gates that have the verdict of the whole."""
        return "; ".join(_sentence(m) for m in self.metrics if m.verdict == self.verdict) or "the run has no gates"


def judge(gates: Iterable[Gate], measured: Measured) -> Judgement:
    """Returns the verdict on a model.

    One failed gate fails the whole; otherwise one inconclusive gate makes it inconclusive; otherwise it passes when
    at least one gate passed. Without any gate to apply it is NotApplicable, which promotes nothing.
    """
    results = tuple(_judge_one(gate, measured) for gate in gates)
    verdicts = {result.verdict for result in results}
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS):
        if verdict in verdicts:
            return Judgement(verdict, results)
    return Judgement(Verdict.NOT_APPLICABLE, results)


def _judge_one(gate: Gate, measured: Measured) -> MetricStatus:
    value = measured.metrics.get(gate.metric)
    finite = value if value is not None and math.isfinite(value) else None

    def result(verdict: Verdict, reason: str | None = None) -> MetricStatus:
        told = None if reason is None else fit(reason)
        return MetricStatus(name=gate.metric, value=finite, threshold=threshold(gate), verdict=verdict, reason=told)

    if gate.max_regression is not None and measured.baseline is None:
        return result(Verdict.NOT_APPLICABLE, "no version is live to compare with")
    if value is None:
        return result(Verdict.INCONCLUSIVE, (measured.missing or {}).get(gate.metric, "was not measured"))
    if finite is None:
        return result(Verdict.INCONCLUSIVE, f"is {value}")
    if gate.metric in TEXT_METRICS and measured.scored_tokens < gate.min_tokens:
        return result(
            Verdict.INCONCLUSIVE,
            f"rests on {measured.scored_tokens} tokens, minTokens asks for {gate.min_tokens}",
        )
    if gate.max is not None:
        return result(Verdict.PASS if finite <= gate.max else Verdict.FAIL)
    if gate.min is not None:
        return result(Verdict.PASS if finite >= gate.min else Verdict.FAIL)
    live = (measured.baseline or {}).get(gate.metric)
    if live is None or not math.isfinite(live):
        reason = (measured.missing or {}).get(BASELINE, "the live version's value was not measured")
        return result(Verdict.INCONCLUSIVE, reason)
    loss = live - finite if gate.metric in HIGHER_IS_BETTER else finite - live
    allowed = gate.max_regression if gate.max_regression is not None else 0.0
    return result(Verdict.PASS if loss <= allowed else Verdict.FAIL, f"the live version has {_show(live)}")


def threshold(gate: Gate) -> str:
    """Returns a gate as a person reads it."""
    if gate.max is not None:
        return f"<= {gate.max:g}"
    if gate.min is not None:
        return f">= {gate.min:g}"
    return (
        f">= live - {gate.max_regression:g}"
        if gate.metric in HIGHER_IS_BETTER
        else f"<= live + {gate.max_regression:g}"
    )


def _sentence(metric: MetricStatus) -> str:
    """Returns how one gate came out: a value that fails must not read as if it met what was wanted."""
    why = f": {metric.reason}" if metric.reason else ""
    if metric.value is None:
        return f"{metric.name} has no value, wanted {metric.threshold}{why}"
    if metric.verdict is Verdict.FAIL:
        return f"{metric.name} is {_show(metric.value)}, wanted {metric.threshold} (failed){why}"
    return f"{metric.name} {_show(metric.value)}, wanted {metric.threshold}{why}"


def _show(value: float) -> str:
    return f"{value:.6g}"
