"""Measures the exported model, and the live one on the same data, and writes a report with every figure and sample.

It measures and does not judge: the gates are held against the result by whoever started the step.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from slipway_core.lifecycle.gate import BASELINE
from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError
from slipway_core.protocol.step_result import EvaluationResult, StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_fetching.errors import Misconfigured, NothingThere, Refused
from slipway_trainer.judging import generation, live_model, perplexity
from slipway_trainer.judging.generation import Answer, Prompt
from slipway_trainer.model import exported_model, lineage
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.step.errors import BadArtifact, BadConfig, BadData, BadModel
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.files import write_atomically
from slipway_trainer.step.progress import Reporter

SAMPLES = "samples.jsonl"
SAMPLES_IN_REPORT = 20


@dataclass(frozen=True)
class Data:
    """What is measured on."""

    documents: list[str]
    prompts: list[Prompt]
    digest: str
    """Of both, so that two evaluations with the same digest are comparable."""
    recall_overlap: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    """What `prepare` reported of the held-out data."""


@dataclass(frozen=True)
class Measured:
    """What one model did."""

    metrics: dict[str, float]
    missing: dict[str, str]
    report: dict[str, Any]
    answers: list[Answer] = field(default_factory=list)
    scored_tokens: int = 0
    window: int | None = None


def run(plan: Plan, workspace: Workspace, *, attempt: int, baseline: str | None = None) -> StepResult:
    """Measures `workspace.artifact` and writes `workspace.report(attempt)`.

    Args:
        baseline: `URI@digest` of the live version. When it cannot be measured its metrics are left out and
            `missing["baseline"]` says why, so that a gate on a regression is inconclusive and never passes.

    Raises BadArtifact when the artifact is not what its manifest says, BadData when prepared data is missing.
    """
    reporter = Reporter("evaluate")
    reporter.serve()
    try:
        return _run(plan, workspace, attempt, baseline, reporter)
    finally:
        reporter.close()


def _run(plan: Plan, workspace: Workspace, attempt: int, baseline: str | None, reporter: Reporter) -> StepResult:
    fence = Fence(workspace.fence("evaluate"), attempt)
    digest = _split(baseline)[1] if baseline else None
    try:
        manifest = artifact.verify(workspace.artifact)
    except ArtifactError as error:
        raise BadArtifact(str(error)) from None
    data = read_data(plan, workspace)
    # First, so that a store that does not answer costs no more than its own time.
    folder, trouble = _live_folder(baseline, workspace, reporter, fence) if baseline else (None, {})
    candidate = _measure_folder("candidate", workspace.artifact, plan, data, reporter)
    live = None
    if folder is not None:
        live, trouble = _measure_live(folder, plan, data, reporter, candidate.window)
    result = StepResult(
        step="evaluate",
        attempt=attempt,
        metrics=candidate.metrics,
        missing=candidate.missing | trouble,
        evaluation=EvaluationResult(
            number=attempt,
            artifact_digest=manifest.digest,
            data_digest=data.digest,
            scored_tokens=candidate.scored_tokens,
            baseline_digest=digest,
            baseline_metrics=live.metrics if live else {},
            recall_overlap=data.recall_overlap,
        ),
    )
    report = {
        "version": 1,
        "run": plan.run.name,
        "plan_digest": plan.digest,
        "number": attempt,
        "artifact": {"uri": f"file://{workspace.artifact.resolve()}", "digest": manifest.digest},
        "data": {"digest": data.digest, "training": manifest.data, **data.report},
        "libraries": lineage.libraries(),
        "metrics": result.metrics,
        "missing": result.missing,
        "bands": {"good": f"perplexity < {perplexity.GOOD_BELOW:g}", "fair": f"perplexity < {perplexity.FAIR_BELOW:g}"},
        "band": perplexity.band(result.metrics.get("perplexity")),
        "candidate": candidate.report,
        BASELINE: {"uri": baseline, "digest": digest, **(live.report if live else {})} if baseline else None,
    }
    _write(workspace, fence, attempt, report, candidate.answers)
    shutil.rmtree(workspace.fetched_live, ignore_errors=True)
    return result


def read_data(plan: Plan, workspace: Workspace) -> Data:
    """Reads the copies of the held-out data that `prepare` made.

    Raises BadData when they are missing, or are not what `prepare` wrote.
    """
    report = lineage.prepared(workspace)
    copies = report["evaluation"]["copies"]
    documents = _rows(workspace.evaluation_documents, copies) if plan.evaluation.data else []
    prompts = _rows(workspace.evaluation_prompts, copies) if plan.evaluation.prompts else []
    return Data(
        documents=[row["text"] for row in documents],
        prompts=[
            Prompt(row["conversations"], row.get("answer"), bool(row.get("recall")), row.get("source"))
            for row in prompts
        ],
        digest=report["evaluation"]["digest"],
        recall_overlap=int(report["prompts"]["recall_overlap"]),
        report={name: report[name] for name in ("evaluation", "prompts")},
    )


def measure(
    name: str, model: ExportedModel, data: Data, reporter: Reporter, *, max_new_tokens: int, window: int | None = None
) -> Measured:
    """Measures one model. A figure that is not finite is left out with its reason. `name` is for the progress."""
    metrics: dict[str, float] = {}
    missing: dict[str, str] = {}
    report: dict[str, Any] = {"dtype": str(model.model.dtype).removeprefix("torch.")}
    scored, answers = None, []
    if data.documents:
        reporter.say(f"{name}: scoring {len(data.documents)} documents")
        started = time.monotonic()
        scored = perplexity.score(
            model.model,
            model.tokenizer,
            data.documents,
            window=window,
            advance=_advance(reporter, f"{name}: scored", "tokens"),
        )
        metrics, missing = scored.figures
        report["perplexity"] = {
            "method": "rolling log-likelihood, every token scored once (as in lm-eval)",
            "prefix": scored.prefix_token,
            "window": scored.window,
            "stride": scored.stride,
            "documents": scored.documents,
            "tokens": scored.tokens,
            "bytes": scored.bytes,
            "words": scored.words,
            "nll": scored.nll if scored.not_finite == 0 else None,
            "seconds": round(time.monotonic() - started, 3),
        }
    if data.prompts:
        reporter.say(f"{name}: answering {len(data.prompts)} prompts")
        started = time.monotonic()
        try:
            answers = generation.answer(
                model,
                data.prompts,
                max_new_tokens=max_new_tokens,
                advance=_advance(reporter, f"{name}: answered", "prompts"),
            )
            made, absent = generation.figures(answers)
        except ValueError as error:
            made, absent = {}, dict.fromkeys(generation.METRICS, str(error))
        metrics, missing = metrics | made, missing | absent
        report["generation"] = {
            "prompts": len(data.prompts),
            "recall_prompts": sum(prompt.recall for prompt in data.prompts),
            "max_new_tokens": max_new_tokens,
            "finish_reasons": _counts([answer.finish_reason for answer in answers]),
            "definitions": generation.DEFINITIONS,
            "samples": [answer.row for answer in answers[:SAMPLES_IN_REPORT]],
            "seconds": round(time.monotonic() - started, 3),
        }
    report |= {"metrics": metrics, "missing": missing}
    return Measured(
        metrics=metrics,
        missing=missing,
        report=report,
        answers=answers,
        scored_tokens=scored.tokens - scored.not_finite if scored else 0,
        window=scored.window if scored else None,
    )


def _measure_folder(
    name: str,
    folder: Path,
    plan: Plan,
    data: Data,
    reporter: Reporter,
    *,
    window: int | None = None,
    prompts: bool = True,
) -> Measured:
    started, device = time.monotonic(), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # On a CPU everything is computed in float32; on an accelerator as it is served, in the artifact's own dtype.
    dtype: Any = torch.float32 if device.type == "cpu" else "auto"
    model = exported_model.load(folder, dtype=dtype, device=device, trust_remote_code=plan.model.trust_remote_code)
    if window is not None:
        # The same window for both, unless the live version takes less: its report says so then.
        window = min(window, perplexity.longest_input(model.model.config, model.tokenizer))
    used = data if prompts else Data(data.documents, [], data.digest)
    measured = measure(name, model, used, reporter, max_new_tokens=plan.evaluation.max_new_tokens, window=window)
    cost = {"device": device.type, "seconds": round(time.monotonic() - started, 3)}
    return replace(measured, report=measured.report | cost)


def _live_folder(
    baseline: str, workspace: Workspace, reporter: Reporter, fence: Fence
) -> tuple[Path | None, dict[str, str]]:
    """Returns where the live version is; None and the reason when there is none to measure."""
    uri, digest = _split(baseline)
    try:
        return live_model.folder_of(uri, digest, workspace.fetched_live, say=reporter.say, check=fence.check), {}
    except (BadArtifact, BadModel, BadConfig, Misconfigured, NothingThere, Refused) as error:
        return None, _not_measured(error)


def _measure_live(
    folder: Path, plan: Plan, data: Data, reporter: Reporter, window: int | None
) -> tuple[Measured | None, dict[str, str]]:
    """Returns what the live version did; None and the reason when it cannot be measured."""
    # Scoring text is cheap, answering prompts is not: only when a gate compares the answers.
    prompts = any(
        gate.max_regression is not None and gate.metric in generation.METRICS for gate in plan.evaluation.gates
    )
    try:
        return _measure_folder("live version", folder, plan, data, reporter, window=window, prompts=prompts), {}
    except (BadArtifact, BadModel, BadConfig) as error:
        return None, _not_measured(error)


def _not_measured(error: Exception) -> dict[str, str]:
    return {BASELINE: f"the live version was not measured: {error}"[:1024]}


def _split(baseline: str) -> tuple[str, str]:
    uri, _, digest = baseline.rpartition("@")
    if not uri or not digest.startswith("sha256:"):
        raise BadConfig(f"--baseline {baseline}: must be URI@sha256:…, the live version's artifact and its digest")
    return uri, digest


def _write(workspace: Workspace, fence: Fence, attempt: int, report: dict[str, Any], answers: list[Answer]) -> None:
    fence.check()
    workspace.evaluation(attempt).mkdir(parents=True, exist_ok=True)
    rows = "".join(json.dumps(answer.row, ensure_ascii=False) + "\n" for answer in answers)
    write_atomically(workspace.evaluation(attempt) / SAMPLES, rows)
    text = json.dumps(report, ensure_ascii=False, allow_nan=False, indent=2)
    write_atomically(workspace.report(attempt), text + "\n")


def _rows(path: Path, copies: dict[str, str]) -> list[dict[str, Any]]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}. Start the run again to prepare its data") from None
    if hashlib.sha256(text).hexdigest() != copies.get(path.name):
        raise BadData(f"{path}: was changed after it was prepared. Remove {path.parent.parent} and start the run again")
    return [json.loads(line) for line in text.decode("utf-8").split("\n") if line]


def _advance(reporter: Reporter, what: str, unit: str) -> Callable[[int, int], None]:
    """Returns what keeps the message of /progress up to date, without a line in the log for every batch."""

    def advance(done: int, total: int) -> None:
        message = f"{what} {done:,} of {total:,} {unit}"
        reporter.progress = reporter.progress.model_copy(update={"message": message})

    return advance


def _counts(values: list[Any]) -> dict[str, int]:
    return {value: values.count(value) for value in sorted(set(values))}
