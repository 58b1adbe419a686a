"""What the curves of a stage say: a loss that does not fall, diverges or overfits.

The thresholds are rules of thumb for token-weighted losses in nats; each finding shows the figures that it rests on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from slipway.diagnosis.finding import Finding, Level
from slipway.training_metrics import Point, StageMetrics
from slipway_core.resources.stage import Stage

FEWEST_POINTS = 8
"""Logged steps below which a curve says nothing."""
FEWEST_STEPS = 20
"""Optimizer steps below which hardly anything can be learned."""
FALL = 0.03
"""Share of the first loss by which it must at least fall."""
RISE = 0.5
"""Share of what had been gained that must be lost again for a loss to count as diverging."""
OVERFIT = 0.05
"""Share by which the last validation loss must be above the lowest."""
STILL_FALLING = 0.05
"""Share by which the loss falls in the last fifth for more training to be worth it."""
LEARNED = 0.3
"""Loss below which there is not much left to fall."""


def diagnose_stage(stage: Stage, metrics: StageMetrics, *, ended: bool) -> list[Finding]:
    """Returns what there is to say about one stage; `ended` tells a stage that is over from one still at work."""
    if not metrics.loss:
        return []
    findings = [
        *_not_finite(stage, metrics.loss),
        *_not_falling(stage, metrics.loss),
        *_overfitting(stage, metrics),
        *(_too_few_steps(stage, metrics) if ended else ()),
    ]
    if not any(finding.level is Level.PROBLEM for finding in findings):
        first, last = window(metrics.loss, 0), window(metrics.loss, -1)
        findings.insert(0, Finding(Level.GOOD, stage.name, "the loss falls", f"from {first:.3f} to {last:.3f}"))
        findings += _still_falling(stage, metrics) if ended else ()
    return findings


def window(curve: Sequence[Point], part: int, parts: int = 10) -> float:
    """Returns the mean of one of the equal parts of a curve; -1 is the last. What is not finite is left out."""
    values = [point.value for point in curve if math.isfinite(point.value)]
    size = max(1, len(values) // parts)
    start = part * size if part >= 0 else len(values) + part * size
    return fmean(values[start : start + size]) if values else math.nan


def _not_finite(stage: Stage, loss: Sequence[Point]) -> Iterator[Finding]:
    bad = next((point for point in loss if not math.isfinite(point.value)), None)
    if bad is not None:
        yield Finding(
            Level.PROBLEM,
            stage.name,
            "the loss is no number any more",
            f"it is {bad.value} at step {bad.step}, learningRate is {stage.optimizer.learning_rate:g}",
            _calmer(stage),
        )


def _not_falling(stage: Stage, loss: Sequence[Point]) -> Iterator[Finding]:
    if len(loss) < FEWEST_POINTS:
        return
    first, last = window(loss, 0), window(loss, -1)
    lowest = min(window(loss, part) for part in range(10))
    rate = f"learningRate is {stage.optimizer.learning_rate:g}"
    if last - lowest > RISE * max(first - lowest, FALL * first) and last > lowest + 0.1:
        figure = f"{first:.3f} at the start, {lowest:.3f} at the lowest, {last:.3f} at the end; {rate}"
        yield Finding(Level.PROBLEM, stage.name, "the loss diverges", figure, _calmer(stage))
    elif first - last < FALL * first and first > LEARNED:
        figure = f"{first:.3f} at the start, {last:.3f} after {loss[-1].step} steps; {rate}"
        yield Finding(Level.PROBLEM, stage.name, "the loss does not fall", figure, _livelier(stage))


def _calmer(stage: Stage) -> str:
    lower = stage.optimizer.learning_rate / 3
    parts = [f"lower optimizer.learningRate (try {lower:.1g})"]
    if stage.optimizer.warmup_ratio < 0.1:
        parts.append("raise optimizer.warmupRatio to 0.1")
    if not 0 < stage.optimizer.max_grad_norm <= 1:
        parts.append("set optimizer.maxGradNorm to 1")
    if stage.precision == "FP16":
        parts.append("use precision BF16 or FP32")
    return ", ".join(parts)


def _livelier(stage: Stage) -> str:
    higher = stage.optimizer.learning_rate * 5
    parts = [f"raise optimizer.learningRate (try {higher:.1g})", "train longer (epochs)"]
    if stage.adapter is not None:
        parts.append(
            f"raise adapter.virtualTokens (it is {stage.adapter.virtual_tokens})"
            if stage.adapter.before_text
            else f"raise adapter.rank (it is {stage.adapter.rank})"
        )
    parts.append("look at the rows of data.train: noise cannot be learned")
    return ", ".join(parts)


def _overfitting(stage: Stage, metrics: StageMetrics) -> Iterator[Finding]:
    curve = [point for point in metrics.validation_loss if math.isfinite(point.value)]
    if not curve:
        if stage.data.validation is None:
            yield Finding(
                Level.NOTE, stage.name, "whether it overfits is not known",
                "data.validation is left out", "set data.validation: {fraction: 0.05}",
            )  # fmt: skip
        return
    lowest, last = min(curve, key=lambda point: point.value), curve[-1]
    if len(curve) < 3 or last.value <= lowest.value * (1 + OVERFIT) or last.step == lowest.step:
        return
    training = window(metrics.loss, -1)
    figure = (
        f"validation loss {lowest.value:.3f} at step {lowest.step} and {last.value:.3f} at step {last.step}; "
        f"training loss {training:.3f}"
    )
    if stage.select == "Best":
        fix = "nothing: select: Best keeps the weights of the lowest; earlyStop would save the time after it"
        yield Finding(Level.NOTE, stage.name, "it overfits towards the end", figure, fix)
        return
    fix = "set select: Best or earlyStop: {patience: 3}, train shorter, or bring more data"
    yield Finding(Level.PROBLEM, stage.name, "it overfits", figure, fix)


def _too_few_steps(stage: Stage, metrics: StageMetrics) -> Iterator[Finding]:
    if metrics.last_step < FEWEST_STEPS:
        batch = stage.batch.tokens or (stage.batch.sequences or 0) * stage.max_length
        size = f"of {batch} tokens each" if batch else "of 16384 tokens each (the default)"
        yield Finding(
            Level.PROBLEM,
            stage.name,
            "too few optimizer steps to learn much",
            f"{metrics.last_step} steps {size}",
            f"lower batch.{'tokens' if stage.batch.sequences is None else 'sequences'}, or raise {_extent(stage)}",
        )


def _extent(stage: Stage) -> str:
    """Returns the field that says how long the stage trains."""
    return "steps" if stage.steps is not None else "tokens" if stage.tokens is not None else "epochs"


def _still_falling(stage: Stage, metrics: StageMetrics) -> Iterator[Finding]:
    if len(metrics.loss) < 5 * FEWEST_POINTS:
        return
    before, after = window(metrics.loss, -2, 5), window(metrics.loss, -1, 5)
    validation = [point.value for point in metrics.validation_loss]
    risen = bool(validation) and validation[-1] > min(validation) * 1.01
    if before - after > STILL_FALLING * before and after > LEARNED and not risen:
        figure = f"{before:.3f} in the last but one fifth, {after:.3f} in the last"
        yield Finding(Level.NOTE, stage.name, "the loss was still falling", figure, "raise epochs to learn more")
