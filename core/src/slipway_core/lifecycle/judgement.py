"""The statement on what a run's record says of its model: what an executor signs and keeps."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

import slipway_core
from slipway_core.plan import Plan
from slipway_core.protocol.sketch import hashes_of
from slipway_core.protocol.statement import (
    GATES_LIMIT,
    METRIC_LIMIT,
    REASON_LIMIT,
    THRESHOLD_LIMIT,
    TRAINING_LIMIT,
    URL_LIMIT,
    AskedOfIt,
    JudgeAgreement,
    JudgedBy,
    JudgedData,
    JudgedGate,
    JudgedRun,
    Judgement,
    Statement,
    finite,
)
from slipway_core.resources.judge import Judge, criteria_digest
from slipway_core.resources.status import JudgeStatus, MetricStatus, RunStatus, fit


def judgement_statement(
    plan: Plan,
    status: RunStatus,
    *,
    training: Mapping[str, str] | None = None,
) -> Statement | None:
    """Returns the statement on the evaluation that the status names; None where it names none, or no model.

    It is made of the record alone, its time too, so every executor that has the record makes the same.

    Args:
        training: digest of what each stage learned from, by `<stage>/<split>`, where the executor knows it of a run
            whose status does not say it, since an earlier release prepared it.
    """
    evaluation, step = status.evaluation, status.step("evaluate")
    if evaluation is None or evaluation.artifact_digest is None or step is None or step.finished_at is None:
        return None
    if step.attempt != evaluation.number:
        return None  # It is judged again: what the step says is about another attempt.
    told = training or {} if status.training_data is None else status.training_data
    learned = dict(sorted(told.items())[:TRAINING_LIMIT])
    image = status.train_image or plan.images.train
    judgement = Judgement(
        run=JudgedRun(name=plan.run.name, uid=plan.run.uid, namespace=plan.run.namespace),
        endpoint=plan.serving.endpoint if plan.serving else None,
        plan=plan.digest,
        evaluation=evaluation.number,
        judged_at=step.finished_at,
        verdict=evaluation.verdict,
        reason=fit(evaluation.reason, REASON_LIMIT) if evaluation.reason else None,
        says_nothing=evaluation.says_nothing or None,
        gates=[_gate(metric) for metric in evaluation.metrics[:GATES_LIMIT]],
        data=JudgedData(
            held_out=evaluation.data_digest, training=learned, sketch=hashes_of(status.held_out_sketch or "")
        ),
        scored_tokens=evaluation.scored_tokens,
        baseline=evaluation.baseline_digest,
        parity=evaluation.parity_digest,
        remote_code=plan.model.trust_remote_code or None,
        judge=_judge(plan.evaluation.judge, evaluation.judge),
        versions={"slipway": slipway_core.__version__, **({"image": image[-253:]} if image else {})},
    )
    return Statement.about(evaluation.artifact_digest, judgement)


def _gate(metric: MetricStatus) -> JudgedGate:
    return JudgedGate(
        metric=fit(metric.name, METRIC_LIMIT),
        source=metric.source,
        slice=metric.slice,
        task=metric.task,
        threshold=fit(metric.threshold, THRESHOLD_LIMIT),
        verdict=metric.verdict,
        value=finite(metric.value),
        difference=finite(metric.difference),
        lower=finite(metric.lower),
        upper=finite(metric.upper),
        confidence=metric.confidence,
        clusters=metric.clusters,
        data=metric.data,
        asked=AskedOfIt.of(metric.asked) if metric.asked is not None else None,
    )


def _judge(asked: Judge | None, told: JudgeStatus | None) -> JudgedBy | None:
    """Returns who judged. The record says whether one was asked: without it the statement is that of a release before,
    byte for byte."""
    if asked is None or told is None:
        return None
    return JudgedBy(
        model=asked.model,
        url=fit(_without_secrets(asked.url), URL_LIMIT),
        compare=asked.compare,
        repeats=asked.repeats,
        criteria=criteria_digest(asked.criteria),
        agreement=JudgeAgreement(orders=told.orders, repeats=told.repeats),
    )


def _without_secrets(url: str) -> str:
    """Returns an address without what may be a password or a key: user, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
