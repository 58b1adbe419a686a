"""What a stage process and the executor that started it say to each other, on a laptop and in a pod alike."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from slipway_core.api import Api, Digest
from slipway_core.status import ArtifactStatus, Progress

RESULT_VARIABLE = "SLIPWAY_RESULT"
"""Environment variable: the file that rank 0 writes its StepResult to, in place."""
PROGRESS_PORT_VARIABLE = "SLIPWAY_PROGRESS_PORT"
"""Environment variable: the port on which rank 0 serves /progress and /metrics; unset, it serves none."""
PROGRESS_HOST_VARIABLE = "SLIPWAY_PROGRESS_HOST"
"""Environment variable: the address it binds, 127.0.0.1 when unset."""
GRACE_VARIABLE = "SLIPWAY_GRACE_SECONDS"
"""Environment variable: seconds between SIGTERM and SIGKILL."""
PLAN_DIGEST_VARIABLE = "SLIPWAY_PLAN_DIGEST"
"""Environment variable: the digest of the plan that the attempt was started for, which covers what decides the model. A
process that finds a plan with another one ends as a failure, which is tried again; unset, it takes what it finds."""
RUNS_VARIABLE = "SLIPWAY_RUNS"
"""Environment variable: the folder in which `<name>/artifact`, or `<name>/<name>-<uid>/artifact` as the local executor
has it, is the artifact of run `<name>`."""
CLAIMS_VARIABLE = "SLIPWAY_CLAIMS"
"""Environment variable, in a pod alone: the folder in which `<claim>` is where a PersistentVolumeClaim is mounted."""
RESULT_LIMIT = 4096
"""Bytes; the kubelet cuts a termination message there."""

StepKind = Literal["prepare", "train", "export", "evaluate"]


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
    recall_overlap: int = 0
    """Recall prompts whose answers stand in the training data."""


class StepResult(Api):
    """The one message of a stage process, at most RESULT_LIMIT bytes of JSON."""

    step: str
    attempt: int
    metrics: dict[str, float] = Field(default_factory=dict)
    """Finite numbers only."""
    missing: dict[str, str] = Field(default_factory=dict)
    """Why a metric is not among them."""
    artifact: ArtifactStatus | None = None
    evaluation: EvaluationResult | None = None
    progress: Progress | None = None
    """Where a training stage was when it ended."""
    error: StepError | None = None


class ResultError(ValueError):
    """What the process left is no result."""


def split_finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the finite metrics, and for each of the others the reason why it is missing."""
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    missing = {name: f"is {float(value)}" for name, value in metrics.items() if not math.isfinite(value)}
    return finite, missing


def encode(result: StepResult) -> str:
    """Returns the result as JSON of at most RESULT_LIMIT bytes; a longer error message is cut.

    Raises ValueError when it does not fit even so.
    """
    text = json.dumps(result.to_document(), ensure_ascii=False, allow_nan=False)
    excess = len(text.encode()) - RESULT_LIMIT
    if excess > 0 and result.error is not None:
        # Three bytes a character at most remain outside the BMP's Chinese; cutting by bytes never cuts too little.
        message = result.error.message.encode()[: -(excess + 64)].decode(errors="ignore") + " … (cut)"
        cut = result.model_copy(update={"error": StepError(kind=result.error.kind, message=message)})
        text = json.dumps(cut.to_document(), ensure_ascii=False, allow_nan=False)
    if len(text.encode()) > RESULT_LIMIT:
        raise ValueError(f"a result of {len(text.encode())} bytes is over the {RESULT_LIMIT} that it may have")
    return text


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
