"""What one model does on the held-out data: how well it predicts the documents, and what it answers to the prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from slipway_core.plan import Plan
from slipway_trainer.evaluation import answer_metrics, task_scores, vllm_engine
from slipway_trainer.evaluation.conversations import ChatScore
from slipway_trainer.evaluation.engine import Engine
from slipway_trainer.evaluation.engine_choice import Choice
from slipway_trainer.evaluation.evaluation_data import EvaluationData
from slipway_trainer.evaluation.findings import Findings
from slipway_trainer.evaluation.generation import Answer
from slipway_trainer.evaluation.parity import KeptRecord
from slipway_trainer.evaluation.perplexity import Score
from slipway_trainer.evaluation.transformers_engine import TransformersEngine
from slipway_trainer.evaluation.vllm_engine import NotStarted
from slipway_trainer.model import exported_model, placement, unmerged_artifact
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.step.errors import BadData, BadModel
from slipway_trainer.step.progress import Reporter

SAMPLES_IN_REPORT = 20


@dataclass(frozen=True)
class Measured:
    """What one model did."""

    metrics: dict[str, float]
    missing: dict[str, str]
    report: dict[str, Any]
    findings: Findings
    """Row by row, for the figures of sources and slices, and for bounds."""
    scored_tokens: int = 0
    """Of documents and conversations."""
    window: int | None = None
    choice: Choice | None = None
    """The engine that it was measured by."""


def measure_folder(
    name: str,
    folder: Path,
    plan: Plan,
    data: EvaluationData,
    reporter: Reporter,
    choice: Choice,
    *,
    fetched: Path | None = None,
    window: int | None = None,
    record: KeptRecord | None = None,
) -> Measured:
    """Loads a model and measures it.

    Args:
        name: for the progress.
        choice: the engine; where vLLM does not start and the run does not insist, transformers is taken.
        fetched: where prepare has put the base of an adapter that is not merged.
        window: longest input in tokens, at most what the model takes; that when None.
        record: of parity, which is computed last, since that changes the model.

    Raises BadArtifact when it cannot be loaded, BadConfig when the engine that the run asks for does not.
    """
    started = time.monotonic()
    reporter.log(f"{name}: judged by {choice.engine}: {choice.why}")
    try:
        with _opened(folder, plan, choice, fetched) as engine:
            measured = measure(
                name,
                engine,
                data,
                reporter,
                max_new_tokens=plan.evaluation.max_new_tokens,
                window=window,
                all_json=any(gate.metric == "json_valid" and gate.task is None for gate in plan.evaluation.gates),
            )
            if record is not None and isinstance(engine, TransformersEngine):
                record.compute(engine.exported)
    except NotStarted as error:
        instead = choice.without_vllm(str(error))
        return measure_folder(
            name, folder, plan, data, reporter, instead, fetched=fetched, window=window, record=record
        )
    if record is not None and choice.engine == "vLLM":
        # What a server is held against is not computed by the engine that serves.
        record.compute_of(lambda: _loaded(folder, plan, fetched))
    cost = {"device": _device().type, "seconds": round(time.monotonic() - started, 3)}
    return replace(measured, report=measured.report | cost, choice=choice)


@contextmanager
def _opened(folder: Path, plan: Plan, choice: Choice, fetched: Path | None) -> Iterator[Engine]:
    trust = plan.model.trust_remote_code
    if choice.engine == "vLLM":
        with vllm_engine.opened(folder, choice.why, trust_remote_code=trust) as served:
            yield served
        return
    yield TransformersEngine(_loaded(folder, plan, fetched), choice.why)


def _loaded(folder: Path, plan: Plan, fetched: Path | None) -> ExportedModel:
    trust = plan.model.trust_remote_code
    device = _device()
    # On a CPU everything is computed in float32; on an accelerator as it is served, in the artifact's own dtype.
    dtype: Any = torch.float32 if device.type == "cpu" else "auto"
    if fetched is not None and unmerged_artifact.is_one(folder):
        held = None if dtype == "auto" else dtype
        return unmerged_artifact.load(plan, folder, fetched, dtype=held, device=device)
    places = placement.of_folder(folder, device, trust_remote_code=trust)
    return exported_model.load(folder, dtype=dtype, device=device, trust_remote_code=trust, places=places)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def measure(
    name: str,
    engine: Engine,
    data: EvaluationData,
    reporter: Reporter,
    *,
    max_new_tokens: int,
    window: int | None = None,
    all_json: bool = False,
) -> Measured:
    """Measures one model. A figure that is not finite is left out with its reason. `name` is for the progress.

    Args:
        all_json: whether json_valid is asked of every answer.
    """
    report: dict[str, Any] = {"dtype": engine.dtype, **engine.told}
    scored, chat, trouble = None, None, None
    answers: list[Answer] = []
    unanswered = None
    if data.documents:
        scored, report["perplexity"] = _score(name, engine, data, reporter, window)
    if data.conversations:
        chat, trouble, report["conversations"] = _converse(name, engine, data, reporter, window)
    if data.prompts:
        answers, unanswered, report["generation"] = _answer(name, engine, data, reporter, max_new_tokens)
    findings = Findings(
        data,
        score=scored,
        chat=chat,
        chat_trouble=trouble,
        answers=answers,
        answer_trouble=unanswered,
        asked=bool(data.prompts),
        all_json=all_json,
        tasks=task_scores.measure(
            data.tasks,
            engine.for_tasks(advance=_advance(reporter, f"{name}: asked", "requests of a task")),
            lambda line: reporter.say(f"{name}: {line}"),
        ),
    )
    if "generation" in report:
        report["generation"]["samples"] = findings.samples()[:SAMPLES_IN_REPORT]
    figures = findings.at()
    report |= told_of(findings)
    return Measured(
        metrics=figures.metrics,
        missing=figures.missing,
        report=report,
        findings=findings,
        scored_tokens=figures.tokens + figures.chat_tokens,
        window=scored.window if scored else chat.window - 1 if chat else None,
    )


def told_of(findings: Findings) -> dict[str, Any]:
    """Returns what the report says of all figures of a model."""
    figures = findings.at()
    return {
        "metrics": figures.metrics,
        "missing": figures.missing,
        "bounds": findings.with_bounds(),
        "scopes": findings.report(),
        **({"tasks": findings.task_reports()} if findings.tasks else {}),
    }


def _score(
    name: str, engine: Engine, data: EvaluationData, reporter: Reporter, window: int | None
) -> tuple[Score, dict[str, Any]]:
    """Returns how well the model predicts the documents, and what the report says of it."""
    reporter.say(f"{name}: scoring {len(data.documents)} documents")
    started = time.monotonic()
    scored = engine.score(data.documents, window=window, advance=_advance(reporter, f"{name}: scored", "tokens"))
    return scored, {
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


def _converse(
    name: str, engine: Engine, data: EvaluationData, reporter: Reporter, window: int | None
) -> tuple[ChatScore | None, str | None, dict[str, Any]]:
    """Returns how well the model predicts the answers of the conversations, or why that is not known, and what the
    report says of it."""
    reporter.say(f"{name}: scoring {len(data.conversations)} conversations")
    started = time.monotonic()
    advance = _advance(reporter, f"{name}: scored", "tokens of answers")
    try:
        scored = engine.converse(data.conversations, window=window, advance=advance)
    except (ValueError, BadData, BadModel) as error:
        # The run's own template was asked before it was trained; the live version may have another.
        return None, str(error), {"conversations": len(data.conversations), "missing": str(error)}
    if left_out := scored.left_out:
        reporter.add_warning(f"{name}: {left_out}")
    return (
        scored,
        None,
        {
            "method": "the assistant's tokens, behind the artifact's own chat template; bytes of what those turns say",
            "window": scored.window,
            "conversations": len(data.conversations),
            "tokens": int(scored.tokens.sum()),
            "bytes": int(scored.bytes.sum()),
            "nll": float(scored.nll.sum()) if not scored.not_finite.any() else None,
            "answers_too_long": int(scored.too_long.sum()),
            "answers_unplaced": int(scored.unplaced.sum()),
            "left_out": left_out,
            "seconds": round(time.monotonic() - started, 3),
        },
    )


def _answer(
    name: str, engine: Engine, data: EvaluationData, reporter: Reporter, max_new_tokens: int
) -> tuple[list[Answer], str | None, dict[str, Any]]:
    """Returns the answers to the prompts, or why there are none, and what the report says."""
    reporter.say(f"{name}: answering {len(data.prompts)} prompts")
    started = time.monotonic()
    answers: list[Answer] = []
    trouble = None
    try:
        answers = engine.answer(
            data.prompts,
            max_new_tokens=max_new_tokens,
            advance=_advance(reporter, f"{name}: answered", "prompts"),
        )
    except ValueError as error:
        trouble = str(error)
    return (
        answers,
        trouble,
        {
            "prompts": len(data.prompts),
            "recall_prompts": sum(prompt.recall for prompt in data.prompts),
            "max_new_tokens": max_new_tokens,
            "repetition_penalty": engine.repetition_penalty,
            "finish_reasons": _counts([answer.finish_reason for answer in answers]),
            "definitions": answer_metrics.DEFINITIONS,
            "seconds": round(time.monotonic() - started, 3),
        },
    )


def _advance(reporter: Reporter, what: str, unit: str) -> Callable[[int, int], None]:
    """Returns what keeps the message of /progress up to date, without a line in the log for every batch."""

    def advance(done: int, total: int) -> None:
        reporter.show(f"{what} {done:,} of {total:,} {unit}")

    return advance


def _counts(values: list[Any]) -> dict[str, int]:
    return {value: values.count(value) for value in sorted(set(values))}
