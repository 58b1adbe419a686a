"""What a stage process and the executor that started it say to each other, on a laptop and in a pod alike."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field, ValidationError

from slipway_core.protocol.estimate import Estimate, Figure
from slipway_core.protocol.sketch import DIGITS
from slipway_core.resources.api import Api, Digest
from slipway_core.resources.status import (
    WARNINGS_LIMIT,
    ArtifactStatus,
    JudgeStatus,
    Progress,
    Sketch,
    SplitDigests,
    Warnings,
    bounded_warnings,
    only_warnings,
)

RESULT_LIMIT = 4096
"""Bytes; the kubelet cuts a termination message there."""
_SHARED_REASON = "the evaluation's report says why"
"""Of the gates whose own reasons have no room."""


class StepError(Api):
    kind: Annotated[str, Field(max_length=64)]
    """CamelCase reason: BadData, Overlap, OutOfMemory, NoSpace, Diverged, BadCheckpoint, Internal, …"""
    message: Annotated[str, Field(max_length=2048)]


class EvaluationResult(Api):
    number: int
    artifact_digest: Digest
    data_digest: str | None = None
    scored_tokens: int = 0
    baseline_digest: Digest | None = None
    baseline_metrics: dict[str, float] = Field(default_factory=dict)
    baseline_overlap: int = 0
    """Held-out documents that the live version has learned from, as far as that is known."""
    baseline_note: Annotated[str, Field(max_length=512)] | None = None
    """The same for people, also where nothing is known."""
    base_digest: Digest | None = None
    """Of the model that the run started from, where a gate compares with that."""
    base_metrics: dict[str, float] = Field(default_factory=dict)
    """Of it, those that a gate compares with."""
    recall_overlap: int = 0
    """Recall prompts whose answers stand in the training data."""
    parity_digest: Digest | None = None
    """Of the record by which a server proves itself; None where there can be none of this model."""
    judge: JudgeStatus | None = None
    """Of the judge model, where one was asked."""
    estimates: Annotated[list[Estimate | None], Field(max_length=32)] = Field(default_factory=list[Estimate | None])
    """One a gate, in the plan's order; None where it could not be measured."""
    figures: Annotated[list[Figure], Field(max_length=32)] = Field(default_factory=list[Figure])
    """One a gate, in the plan's order. Empty from an evaluation of an earlier release: `metrics` says it all then."""
    reasons: Annotated[list[str], Field(max_length=64)] = Field(default_factory=list[str])
    """Why there are no values, each once."""


class StepResult(Api):
    """The one message of a stage process, at most RESULT_LIMIT bytes of JSON."""

    step: str
    attempt: int
    metrics: dict[str, float] = Field(default_factory=dict)
    """Finite numbers only."""
    missing: dict[str, str] = Field(default_factory=dict)
    """Why a metric is not among them."""
    artifact: ArtifactStatus | None = None
    held_out_digest: Digest | None = None
    """Of the held-out data, from prepare."""
    held_out_sketch: Sketch | None = None
    """Of the same documents and prompts (`protocol.sketch`)."""
    gate_data: Annotated[list[Digest], Field(max_length=32)] = Field(default_factory=list[Digest])
    """From prepare, one a gate, in the plan's order: of what the gate is going to be measured on. Empty from one of an
    earlier release."""
    training_data: SplitDigests | None = None
    """Digest of what each stage learns from and is validated on, from prepare."""
    evaluation: EvaluationResult | None = None
    progress: Progress | None = None
    """Where a training stage was when it ended."""
    warnings: Warnings | None = None
    """What the step has found that whoever wrote the run should know."""
    warnings_found: Annotated[int, Field(ge=1)] | None = None
    """How many that are where `warnings`, in the same order, has not all of them whole: what was heard of the same
    attempt is better then. One more than a record holds where it is more. None where `warnings` are all, and whole."""
    error: StepError | None = None


class ResultError(ValueError):
    """What the process left is no result."""


def split_finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the finite metrics, and for each of the others the reason why it is missing."""
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    missing = {name: f"is {float(value)}" for name, value in metrics.items() if not math.isfinite(value)}
    return finite, missing


def encode(result: StepResult) -> str:
    """Returns the result as JSON of at most RESULT_LIMIT bytes.

    What the gates are judged by stays. Of the rest, what does not fit is left out or cut, the least needed first: the
    report of a preparation or an evaluation has all of it, and the log of a step its warnings. A longer sketch or error
    message is cut. A result that cannot be written loses all the work of its step, so everything else gives way.

    Raises ValueError when it does not fit even so.
    """
    smallest, text = result, _text(result)
    for smaller in _smaller(result):
        if len(text.encode()) <= RESULT_LIMIT:
            return text
        smallest, text = smaller, _text(smaller)
    excess = len(text.encode()) - RESULT_LIMIT
    if excess > 0 and result.held_out_sketch:
        # Fewer of the smallest hashes are a sketch too, which tells less.
        kept = max(0, len(result.held_out_sketch) // DIGITS - excess // DIGITS - 1) * DIGITS
        return encode(result.model_copy(update={"held_out_sketch": result.held_out_sketch[:kept]}))
    if excess > 0 and result.error is not None:
        # Three bytes a character at most remain outside the BMP's Chinese; cutting by bytes never cuts too little.
        message = result.error.message.encode()[: -(excess + 64)].decode(errors="ignore") + " … (cut)"
        cut = smallest.model_copy(update={"error": StepError(kind=result.error.kind, message=message)})
        text = _text(cut)
    if len(text.encode()) > RESULT_LIMIT:
        raise ValueError(f"a result of {len(text.encode())} bytes is over the {RESULT_LIMIT} that it may have")
    return text


def _text(result: StepResult) -> str:
    return json.dumps(result.to_document(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _smaller(result: StepResult) -> Iterator[StepResult]:
    """Yields a result with less and less of what no gate needs."""
    evaluation = result.evaluation
    if evaluation is None:
        yield from _smaller_preparation(result)
        return
    evaluation = evaluation.model_copy(update={"baseline_metrics": {}, "base_metrics": {}})
    yield (result := result.model_copy(update={"evaluation": evaluation}))
    yield (result := result.model_copy(update={"missing": {}}))
    yield (result := result.model_copy(update={"metrics": {}}))
    for fewer in _fewer_warnings(result.warnings):
        yield (result := result.model_copy(update=fewer))
    for most in (256, 128, 64, 24):
        note = evaluation.baseline_note
        cut = {
            "reasons": [_cut(reason, most) for reason in evaluation.reasons],
            "baseline_note": _cut(note, most) if note is not None else None,
        }
        evaluation = evaluation.model_copy(update=cut)
        yield (result := result.model_copy(update={"evaluation": evaluation}))
    for most in (8, 4, 1):
        evaluation = _with_fewer_reasons(evaluation, most)
        yield (result := result.model_copy(update={"evaluation": evaluation}))
    yield (result := result.model_copy(update=_NO_WARNINGS))
    evaluation = evaluation.model_copy(update={"baseline_note": None, "reasons": []})
    yield result.model_copy(update={"evaluation": evaluation})


def _with_fewer_reasons(evaluation: EvaluationResult, most: int) -> EvaluationResult:
    """Returns an evaluation of at most so many reasons; the last one is for all gates whose own is not there."""
    if len(evaluation.reasons) <= most:
        return evaluation
    figures = [
        figure if figure.reason is None else figure._replace(reason=min(figure.reason, most - 1))
        for figure in evaluation.figures
    ]
    reasons = [*evaluation.reasons[: most - 1], _SHARED_REASON]
    return evaluation.model_copy(update={"figures": figures, "reasons": reasons})


def _smaller_preparation(result: StepResult) -> Iterator[StepResult]:
    """The report of prepare has the metrics, and all that was learned from; a required gate is held against the
    digests of what gates are measured on."""
    if result.gate_data or result.training_data is not None:
        for most in (24, 12):
            yield (result := result.model_copy(update={"metrics": dict(list(result.metrics.items())[:most])}))
    for fewer in _fewer_warnings(result.warnings):
        yield (result := result.model_copy(update=fewer))
    if result.gate_data or result.training_data is not None:
        yield (result := result.model_copy(update={"metrics": {}}))
    if result.training_data is not None:
        learned = {place: digest for place, digest in result.training_data.items() if place.endswith("/train")}
        yield (result := result.model_copy(update={"training_data": learned}))
        if result.gate_data:
            yield (result := result.model_copy(update={"training_data": None}))
    if not result.held_out_sketch and result.error is None:
        # A sketch and a message are cut until it fits, and tell less then.
        yield result.model_copy(update=_NO_WARNINGS)


_NO_WARNINGS: dict[str, object] = {"warnings": None, "warnings_found": None}


def _fewer_warnings(warnings: list[str] | None) -> Iterator[dict[str, object]]:
    """Yields warnings that take less and less, with their number; the last ones are only that there are some."""
    if not warnings:
        return
    whole = only_warnings(warnings)
    more = len(whole) < len(warnings)
    number = len(warnings) + more
    for length, most in ((240, WARNINGS_LIMIT), (160, 4), (0, 1)):
        cut = [_cut(warning, length) for warning in whole] if length else []
        yield {"warnings": bounded_warnings(cut, most, more=more or not length), "warnings_found": number}


def _cut(text: str, most: int) -> str:
    """Returns a text of at most so many bytes."""
    held = text.encode()
    return text if len(held) <= most else held[: most - 3].decode(errors="ignore") + "…"


def decode(text: str) -> StepResult:
    """Parses a result. Raises ResultError that says what it is instead: empty, cut off, or something else."""
    if not text.strip():
        raise ResultError("the process left no result")
    try:
        return StepResult.model_validate_json(text, by_alias=True, by_name=False)
    except ValidationError as error:
        cut = " (it was cut off)" if len(text.encode()) >= RESULT_LIMIT else ""
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ResultError(f"the process left no valid result{cut}: {where} {first['msg']}".replace("  ", " ")) from None
