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

from slipway_core.lifecycle import more_rows
from slipway_core.protocol.estimate import Estimate, Figure
from slipway_core.protocol.step_result import EvaluationResult, StepResult
from slipway_core.resources.evaluation import POINT, Gate
from slipway_core.resources.gate_metrics import (
    JUDGE_METRICS,
    POINT_METRICS,
    SCORED_METRICS,
    WIN_RATE,
    higher_is_better,
    is_share,
    span,
    span_of_difference,
    unit,
)
from slipway_core.resources.judge import Compared
from slipway_core.resources.required_gates import record_of
from slipway_core.resources.status import MetricStatus, Verdict, fit

BASELINE = "baseline"
"""Key of `missing` that says why the live version has no metrics."""
BASE = "base"
"""Key of `missing` that says why the model that the run started from has none."""
FEWEST_CLUSTERS = 8
"""Documents, conversations or prompts that bounds need: what is told from fewer depends on what each happens to be."""
RESTS_ON = "rests on "
"""Begins the reason of a gate that has too few tokens, documents or prompts."""
UNDECIDABLE = "would soon decide"
"""Ends the reason of a gate whose figure is so near to what is asked that more of them are no help."""


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
    figures: Sequence[Figure] = ()
    """The same; where there is none, the gate's metric is looked up among `metrics`."""
    reasons: Sequence[str] = ()
    """Why figures have no value."""
    judge_silent: bool = False
    """Whether what gates on a judge's word lack says nothing of the model (`JudgeStatus.silent`)."""

    @classmethod
    def of(cls, result: StepResult, evaluation: EvaluationResult) -> Measured:
        """Takes what an evaluation has reported, which `evaluation` is a part of."""
        return cls(
            metrics=result.metrics,
            scored_tokens=evaluation.scored_tokens,
            missing=result.missing,
            baseline=evaluation.baseline_metrics if evaluation.baseline_digest else None,
            base=evaluation.base_metrics,
            estimates=evaluation.estimates,
            figures=evaluation.figures,
            reasons=evaluation.reasons,
            judge_silent=evaluation.judge is not None and evaluation.judge.silent is True,
        )

    def by_gate(self, gates: Iterable[Gate]) -> Iterable[tuple[Gate, Estimate | None, _Found]]:
        """Returns each gate with its estimate, and what was found of it."""
        figures = chain(self.figures, repeat(None))
        for gate, estimate, figure in zip(gates, chain(self.estimates, repeat(None)), figures, strict=False):
            yield gate, estimate, self._looked_up(gate) if figure is None else self._of_figure(gate, figure)

    def _of_figure(self, gate: Gate, figure: Figure) -> _Found:
        known = figure.reason is not None and figure.reason < len(self.reasons)
        reason = self.reasons[figure.reason] if known and figure.reason is not None else None
        other = None if gate.max_regression is None else figure.other
        return _Found(
            figure.value,
            other,
            figure.tokens,
            reason or _NOT_MEASURED,
            reason or other_not_measured(gate),
            reason or _NO_BOUNDS,
        )

    def _looked_up(self, gate: Gate) -> _Found:
        """Of an evaluation that tells no figures of gates: an earlier release's, which knew no sources and slices."""
        missing = self.missing or {}
        if (gate.source, gate.slice, gate.task) != (None, None, None):
            return _Found(None, None, 0, _OLDER, _OLDER)
        others, key = (self.base, BASE) if gate.against_base else (self.baseline or {}, BASELINE)
        return _Found(
            self.metrics.get(gate.metric),
            others.get(gate.metric),
            self.scored_tokens,
            missing.get(gate.metric, _NOT_MEASURED),
            missing.get(key, other_not_measured(gate)),
        )


_NOT_MEASURED = "was not measured"
_NO_BOUNDS = "the evaluation told no bounds of it; an image of another release made it"
_OLDER = "the evaluation told nothing of this source, slice or task; an image of another release made it"


@dataclass(frozen=True)
class _Found:
    """What was found of one gate."""

    value: float | None
    other: float | None
    """Of the model that a regression is from."""
    tokens: int
    why_none: str
    why_no_other: str
    why_no_bounds: str = _NO_BOUNDS


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    metrics: tuple[MetricStatus, ...]
    says_nothing: bool = False
    """Whether each gate that is inconclusive is so for want of something else than the model."""

    @property
    def reason(self) -> str:
        """What decided, in one sentence a gate: the gates that have the verdict of the whole."""
        return "; ".join(_sentence(m) for m in self.metrics if m.verdict == self.verdict) or "the run has no gates"


def judge(gates: Iterable[Gate], measured: Measured, *, win_rate_over: Compared | None = None) -> Judgement:
    """Returns the verdict on a model.

    One failed gate fails the whole; otherwise one inconclusive gate makes it inconclusive; otherwise it passes when
    at least one gate passed. Without any gate to apply it is NotApplicable, which promotes nothing. All gates must
    pass, so each keeps its own confidence however many there are (an intersection-union test: Berger 1982).

    Args:
        win_rate_over: what win_rate compares with.
    """
    compared = measured.baseline is not None

    def one(gate: Gate, found: _Found, estimate: Estimate | None) -> _Result:
        of_live = win_rate_over == "Live" if gate.metric == WIN_RATE else gate.against_live
        applies = compared or not of_live
        return _judge_one(
            gate, found, estimate, applies=applies, over=win_rate_over, judge_silent=measured.judge_silent
        )

    results = [one(gate, found, estimate) for gate, estimate, found in measured.by_gate(gates)]
    metrics = tuple(result.metric for result in results)
    verdicts = {metric.verdict for metric in metrics}
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS):
        if verdict in verdicts:
            undecided = [result for result in results if result.metric.verdict is Verdict.INCONCLUSIVE]
            prevented = verdict is Verdict.INCONCLUSIVE and all(result.prevented for result in undecided)
            return Judgement(verdict, metrics, says_nothing=prevented)
    return Judgement(Verdict.NOT_APPLICABLE, metrics)


def by_bounds(gate: Gate) -> bool:
    """Whether a gate is judged by bounds, and not by the figure as it is."""
    return gate.confidence not in (None, POINT) and not is_point(gate)


@dataclass(frozen=True)
class _Result:
    """How one gate came out."""

    metric: MetricStatus
    prevented: bool = False
    """Whether it is inconclusive for want of something else than the model: a judge, or what it is compared with."""


def _judge_one(
    gate: Gate,
    found: _Found,
    estimate: Estimate | None,
    *,
    applies: bool,
    over: Compared | None,
    judge_silent: bool,
) -> _Result:
    value = found.value
    finite = value if value is not None and math.isfinite(value) else None

    def result(verdict: Verdict, reason: str | None = None, *, prevented: bool = False, **bounds: Any) -> _Result:
        metric = MetricStatus(
            name=gate.metric,
            source=gate.source,
            slice=gate.slice,
            task=gate.task,
            value=finite,
            threshold=threshold(gate, over),
            verdict=verdict,
            reason=None if reason is None else fit(reason),
            asked=record_of(gate, over),
            **bounds,
        )
        return _Result(metric, prevented)

    if not applies:
        return result(Verdict.NOT_APPLICABLE, "no version is live to compare with")
    if value is None:
        by_judge = gate.task is None and gate.metric in JUDGE_METRICS
        return result(Verdict.INCONCLUSIVE, found.why_none, prevented=by_judge and judge_silent)
    if finite is None:
        return result(Verdict.INCONCLUSIVE, f"is {value}")
    if gate.task is None and gate.metric in SCORED_METRICS and found.tokens < gate.min_tokens:
        return result(
            Verdict.INCONCLUSIVE,
            f"{RESTS_ON}{found.tokens} tokens, minTokens asks for {gate.min_tokens}",
        )
    other, beside = None, None
    if gate.max_regression is not None:
        other = found.other
        if other is None or not math.isfinite(other):
            return result(Verdict.INCONCLUSIVE, found.why_no_other, prevented=True)
        beside = f"{_whose(gate)} has {_show(other)}"
    if not by_bounds(gate):
        worse = None if other is None else _worse(gate, finite, other)
        return result(_of_point(gate, finite if worse is None else worse), beside, difference=worse)
    if estimate is None or estimate.lower is None or estimate.upper is None:
        return result(Verdict.INCONCLUSIVE, found.why_no_bounds)
    verdict, why = _of_bounds(gate, estimate)
    shown_as = told(gate, estimate)
    return result(
        verdict,
        "; ".join(part for part in (beside, why) if part) or None,
        difference=None if other is None else estimate.value,
        lower=shown_as.lower,
        upper=shown_as.upper,
        confidence=gate.confidence,
        clusters=estimate.clusters,
    )


def told(gate: Gate, estimate: Estimate) -> Estimate:
    """Returns an estimate as people are told it: its bounds end where the metric does.

    A verdict goes by the bounds as they are, and can be read from these too. What lies beyond an end is moved to it,
    and does not pass a threshold between the ends on the way: an upper bound of 103 and one of 100 are both above
    `max: 90` and not below `min: 90`, and so with the lower ones. Only what a threshold at an end itself or
    beyond it asks (`max: 100` of chrF) reads as if it were proven; any model meets that, or none does, and it stays
    inconclusive until the bounds as they are decide. How many more rows
    would decide is reckoned with the bounds as they are, since the moved one tells nothing of how the figure varies.
    """
    ends = span if gate.max_regression is None else span_of_difference
    return estimate.within(*ends(gate.metric, gate.task))


def is_point(gate: Gate) -> bool:
    """Whether a gate's figure has no bounds, and is taken as it is."""
    return gate.task is None and gate.metric in POINT_METRICS


def _of_point(gate: Gate, value: float) -> Verdict:
    """Returns the verdict on a figure as it is: a value, or how much worse it is."""
    if gate.min is not None:
        return Verdict.PASS if value >= gate.min else Verdict.FAIL
    return Verdict.PASS if value <= _most(gate) else Verdict.FAIL


def _of_bounds(gate: Gate, estimate: Estimate) -> tuple[Verdict, str | None]:
    """Returns the verdict on a figure whose bounds are known, and what there is to say of it."""
    assert estimate.lower is not None
    assert estimate.upper is not None
    pieces = unit(gate.metric, gate.task)
    if estimate.clusters < FEWEST_CLUSTERS:
        return (
            Verdict.INCONCLUSIVE,
            f"{RESTS_ON}{estimate.clusters} {pieces}; {FEWEST_CLUSTERS} are the fewest that bounds can be told from",
        )
    wanted = gate.min if gate.min is not None else _most(gate)
    below, above = estimate.upper <= wanted, estimate.lower > wanted
    if gate.min is not None:
        below, above = estimate.upper < wanted, estimate.lower >= wanted
    if below or above:
        return (Verdict.PASS if above == (gate.min is not None) else Verdict.FAIL), None
    return Verdict.INCONCLUSIVE, _more(gate, estimate, wanted, pieces)


def _more(gate: Gate, estimate: Estimate, wanted: float, pieces: str) -> str:
    """Returns about how many more documents would decide."""
    enough = _enough(gate, estimate, wanted)
    if enough is None:
        return f"it is so near to what is asked that no number of {pieces} {UNDECIDABLE}"
    more = max(1, enough - estimate.clusters)
    return f"about {more:,} more {pieces} would decide, beside the {estimate.clusters:,} there are"


def _enough(gate: Gate, estimate: Estimate, wanted: float) -> int | None:
    """Returns about how many documents in all would decide; None where no number soon would."""
    assert estimate.lower is not None
    assert estimate.upper is not None
    assert gate.confidence is not None
    bound = estimate.upper if wanted > estimate.value else estimate.lower
    if wanted != estimate.value and is_share(gate.metric, gate.task):
        clusters, confidence = estimate.clusters, gate.confidence
        if gate.max_regression is None and 0 <= estimate.value <= 1:
            return more_rows.of_share(estimate.value, bound, wanted, clusters, confidence)
        if gate.max_regression is not None and more_rows.is_same(estimate.value, bound, clusters, confidence):
            return more_rows.of_same(bound, wanted, clusters, confidence)
    # Bounds narrow with the root of their number.
    distance, half = abs(wanted - estimate.value), abs(bound - estimate.value)
    if distance <= half / 100:
        return None
    return math.ceil(estimate.clusters * (half / distance) ** 2)


def _whose(gate: Gate) -> str:
    """Returns which model a regression is from."""
    return "the base model" if gate.against_base else "the live version"


def other_not_measured(gate: Gate) -> str:
    """Returns that the model which a regression is from has no value."""
    return f"{_whose(gate)}'s value was not measured"


def _worse(gate: Gate, value: float, other: float) -> float:
    return other - value if higher_is_better(gate.metric, gate.task) else value - other


def _most(gate: Gate) -> float:
    """Returns what a gate with `max` or `maxRegression` lets through at the most."""
    return gate.max if gate.max is not None else gate.max_regression or 0.0


def threshold(gate: Gate, win_rate_over: Compared | None = None) -> str:
    """Returns a gate as a person reads it.

    Args:
        win_rate_over: what win_rate compares with.
    """
    if gate.metric == WIN_RATE and gate.min is not None and win_rate_over is not None:
        return f">= {gate.min:g} over {win_rate_over.lower()}"
    if gate.max is not None:
        return f"<= {gate.max:g}"
    if gate.min is not None:
        return f">= {gate.min:g}"
    other = "base" if gate.against_base else "live"
    if higher_is_better(gate.metric, gate.task):
        return f">= {other} - {gate.max_regression:g}"
    return f"<= {other} + {gate.max_regression:g}"


def _sentence(metric: MetricStatus) -> str:
    """Returns how one gate came out: a value that fails must not read as if it met what was wanted."""
    why = f": {metric.reason}" if metric.reason else ""
    if metric.value is None:
        return f"{metric.title} has no value, wanted {metric.threshold}{why}"
    if metric.verdict is Verdict.FAIL:
        return f"{metric.title} is {shown(metric)}, wanted {metric.threshold} (failed){why}"
    return f"{metric.title} {shown(metric)}, wanted {metric.threshold}{why}"


def shown(metric: MetricStatus) -> str:
    """Returns a figure as a person reads it: with its bounds, or with how much worse than another it is and theirs."""
    assert metric.value is not None
    bounds = "" if metric.lower is None or metric.upper is None else f"{_show(metric.lower)} to {_show(metric.upper)}"
    if metric.difference is None:
        return f"{_show(metric.value)} ({bounds})" if bounds else _show(metric.value)
    if bounds:
        return f"{_show(metric.value)}, worse by {_show(metric.difference)} ({bounds})"
    return f"{_show(metric.value)}, worse by {_show(metric.difference)}"


def _show(value: float) -> str:
    return f"{value:.6g}"
