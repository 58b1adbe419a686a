"""The quality gate: what was measured, held against what was asked for.

A metric that is missing, not finite, or rests on too little is inconclusive. It never passes. Nor does one whose bounds
have what is asked for between them: with more data it might come out either way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

from slipway_core.protocol.estimate import Estimate
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.gate_metrics import HIGHER_IS_BETTER, POINT_METRICS, TEXT_METRICS
from slipway_core.resources.status import MetricStatus, Verdict, fit

BASELINE = "baseline"
"""Key of `missing` that says why the live version has no metrics."""
BASE = "base"
"""Key of `missing` that says why the model that the run started from has none."""
FEWEST_CLUSTERS = 8
"""Documents or prompts that bounds need: what is told from fewer depends on what each happens to be."""
POINT = 0.5
"""The confidence with which a figure is taken as it is."""


@dataclass(frozen=True)
class Measured:
    """What one evaluation found out."""

    metrics: Mapping[str, float]
    scored_tokens: int = 0
    missing: Mapping[str, str] | None = None
    """Why a metric is not there."""
    baseline: Mapping[str, float] | None = None
    """The live version's metrics on the same data; None when no version is live."""
    base: Mapping[str, float] = field(default_factory=dict[str, float])
    """Those of the model that the run started from."""
    estimates: Sequence[Estimate | None] = ()
    """One a gate, in their order; fewer where an evaluation of an earlier release told none."""

    def by_gate(self, gates: Iterable[Gate]) -> Iterable[tuple[Gate, Estimate | None]]:
        """Returns each gate with its estimate."""
        return zip(gates, chain(self.estimates, repeat(None)), strict=False)


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
    at least one gate passed. Without any gate to apply it is NotApplicable, which promotes nothing. All gates must
    pass, so each keeps its own confidence however many there are (an intersection-union test: Berger 1982).
    """
    results = tuple(_judge_one(gate, measured, estimate) for gate, estimate in measured.by_gate(gates))
    verdicts = {result.verdict for result in results}
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS):
        if verdict in verdicts:
            return Judgement(verdict, results)
    return Judgement(Verdict.NOT_APPLICABLE, results)


def _judge_one(gate: Gate, measured: Measured, estimate: Estimate | None) -> MetricStatus:
    value = measured.metrics.get(gate.metric)
    finite = value if value is not None and math.isfinite(value) else None

    def result(verdict: Verdict, reason: str | None = None, **bounds: Any) -> MetricStatus:
        told = None if reason is None else fit(reason)
        wanted = threshold(gate)
        return MetricStatus(name=gate.metric, value=finite, threshold=wanted, verdict=verdict, reason=told, **bounds)

    if gate.against_live and measured.baseline is None:
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
    other, beside = None, None
    if gate.max_regression is not None:
        other, name = _other(gate, measured)
        if other is None or not math.isfinite(other):
            key = BASE if gate.against_base else BASELINE
            return result(Verdict.INCONCLUSIVE, (measured.missing or {}).get(key, f"{name}'s value was not measured"))
        beside = f"{name} has {_show(other)}"
    if gate.confidence is None or gate.confidence == POINT or gate.metric in POINT_METRICS:
        worse = None if other is None else _worse(gate, finite, other)
        return result(_of_point(gate, finite if worse is None else worse), beside, difference=worse)
    if estimate is None or estimate.lower is None or estimate.upper is None:
        return result(Verdict.INCONCLUSIVE, "the evaluation told no bounds of it; an image of another release made it")
    verdict, why = _of_bounds(gate, estimate)
    return result(
        verdict,
        "; ".join(part for part in (beside, why) if part) or None,
        difference=None if other is None else estimate.value,
        lower=estimate.lower,
        upper=estimate.upper,
        confidence=gate.confidence,
        clusters=estimate.clusters,
    )


def _of_point(gate: Gate, value: float) -> Verdict:
    """Returns the verdict on a figure as it is: a value, or how much worse it is."""
    if gate.min is not None:
        return Verdict.PASS if value >= gate.min else Verdict.FAIL
    return Verdict.PASS if value <= _most(gate) else Verdict.FAIL


def _of_bounds(gate: Gate, estimate: Estimate) -> tuple[Verdict, str | None]:
    """Returns the verdict on a figure whose bounds are known, and what there is to say of it."""
    assert estimate.lower is not None
    assert estimate.upper is not None
    unit = "documents" if gate.metric in TEXT_METRICS else "prompts"
    if estimate.clusters < FEWEST_CLUSTERS:
        return (
            Verdict.INCONCLUSIVE,
            f"rests on {estimate.clusters} {unit}; {FEWEST_CLUSTERS} are the fewest that bounds can be told from",
        )
    wanted = gate.min if gate.min is not None else _most(gate)
    below, above = estimate.upper <= wanted, estimate.lower > wanted
    if gate.min is not None:
        below, above = estimate.upper < wanted, estimate.lower >= wanted
    if below or above:
        return (Verdict.PASS if above == (gate.min is not None) else Verdict.FAIL), None
    return Verdict.INCONCLUSIVE, _more(estimate, wanted, unit)


def _more(estimate: Estimate, wanted: float, unit: str) -> str:
    """Returns about how many more documents would decide: bounds narrow with the root of their number."""
    assert estimate.lower is not None
    assert estimate.upper is not None
    distance = abs(wanted - estimate.value)
    half = estimate.upper - estimate.value if wanted > estimate.value else estimate.value - estimate.lower
    if distance <= half / 100:
        return f"it is so near to what is asked that no number of {unit} would soon decide"
    more = math.ceil(estimate.clusters * ((half / distance) ** 2 - 1))
    return f"about {max(1, more):,} more {unit} would decide, beside the {estimate.clusters:,} there are"


def _other(gate: Gate, measured: Measured) -> tuple[float | None, str]:
    """Returns the value that a regression is from, and whose it is."""
    if gate.against_base:
        return measured.base.get(gate.metric), "the base model"
    return (measured.baseline or {}).get(gate.metric), "the live version"


def _worse(gate: Gate, value: float, other: float) -> float:
    return other - value if gate.metric in HIGHER_IS_BETTER else value - other


def _most(gate: Gate) -> float:
    """Returns what a gate with `max` or `maxRegression` lets through at the most."""
    return gate.max if gate.max is not None else gate.max_regression or 0.0


def threshold(gate: Gate) -> str:
    """Returns a gate as a person reads it."""
    if gate.max is not None:
        return f"<= {gate.max:g}"
    if gate.min is not None:
        return f">= {gate.min:g}"
    other = "base" if gate.against_base else "live"
    if gate.metric in HIGHER_IS_BETTER:
        return f">= {other} - {gate.max_regression:g}"
    return f"<= {other} + {gate.max_regression:g}"


def _sentence(metric: MetricStatus) -> str:
    """Returns how one gate came out: a value that fails must not read as if it met what was wanted."""
    why = f": {metric.reason}" if metric.reason else ""
    if metric.value is None:
        return f"{metric.name} has no value, wanted {metric.threshold}{why}"
    if metric.verdict is Verdict.FAIL:
        return f"{metric.name} is {shown(metric)}, wanted {metric.threshold} (failed){why}"
    return f"{metric.name} {shown(metric)}, wanted {metric.threshold}{why}"


def shown(metric: MetricStatus, digits: int = 6) -> str:
    """Returns a figure as a person reads it: with its bounds, or with how much worse than another it is and theirs."""

    def show(value: float) -> str:
        return f"{value:.{digits}g}"

    assert metric.value is not None
    bounds = "" if metric.lower is None or metric.upper is None else f"{show(metric.lower)} to {show(metric.upper)}"
    if metric.difference is None:
        return f"{show(metric.value)} ({bounds})" if bounds else show(metric.value)
    if bounds:
        return f"{show(metric.value)}, worse by {show(metric.difference)} ({bounds})"
    return f"{show(metric.value)}, worse by {show(metric.difference)}"


def _show(value: float) -> str:
    return f"{value:.6g}"
