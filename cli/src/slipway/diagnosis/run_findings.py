"""What went wrong with a run, from what it left: its status, its steps' results, its curves and its report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway.diagnosis import blockers
from slipway.diagnosis.curve_findings import diagnose_stage
from slipway.diagnosis.finding import Finding, Level
from slipway.training_metrics import StageMetrics, read_run
from slipway_core.lifecycle import remedy
from slipway_core.lifecycle.remedy import Remedy
from slipway_core.protocol import step_result
from slipway_core.protocol.step_result import StepError
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.conditions import NOT_ANSWERING, STOPPED, find
from slipway_core.resources.status import MetricStatus, Phase, RunStatus, StepState, Verdict
from slipway_core.resources.training_run import TrainingRun

POOR_PERPLEXITY = 50
REPEATING = 0.3
"""Mean share of an answer's 4-grams that it has had before. Human text is below 0.01, a looping model above 0.5."""
EMPTY = 0.05
CUT = 0.5
"""Share of answers that end at the limit instead of at an end of turn."""
UNVARIED = 0.2
"""Different 2-grams over all 2-grams, over all answers."""
RECALLED = 0.5
TRUNCATED = 0.02
"""Share of documents that lost their end."""


@dataclass(frozen=True)
class Evidence:
    run: TrainingRun
    status: RunStatus
    curves: Sequence[StageMetrics] = ()
    report: Mapping[str, Any] | None = None
    """`evaluation/<n>/report.json`."""
    prepared: Mapping[str, Any] | None = None
    """`prepare.json`."""
    errors: Mapping[str, StepError] = field(default_factory=dict)
    """The error that the newest attempt of a step ended with, by step."""
    silence: str | None = None
    """Why the model that passed does not answer, as its endpoint tells it; None where that is not known."""
    options: str = ""
    """What leads a command to where the run is."""

    def command(self, *words: str) -> str:
        return " ".join(("slipway", *words, *filter(None, [self.options])))


def gather(run: TrainingRun, status: RunStatus, workspace: Workspace) -> Evidence:
    """Reads what a run has left so far; what is missing or damaged is left out."""
    report = _json(workspace.report(status.evaluation.number)) if status.evaluation else None
    errors: dict[str, StepError] = {}
    for step in status.stages:
        path = workspace.result(step.name, step.attempt)
        try:
            result = step_result.decode(path.read_text(encoding="utf-8"))
        except (OSError, step_result.ResultError):
            continue
        if result.error is not None:
            errors[step.name] = result.error
    return Evidence(run, status, read_run(run, workspace), report, _json(workspace.prepared), errors)


def _json(path: Any) -> Mapping[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def diagnose(evidence: Evidence) -> list[Finding]:
    """Returns what there is to say, in the order of the steps."""
    curves = {stage.name: stage for stage in evidence.curves}
    findings = [*_serving(evidence), *_waits(evidence), *_steps(evidence), *_data(evidence)]
    for stage in evidence.run.spec.stages:
        step = evidence.status.step(stage.name)
        ended = step is not None and step.state is StepState.SUCCEEDED
        if stage.name in curves:
            findings += diagnose_stage(stage, curves[stage.name], ended=ended)
    return [*findings, *_gates(evidence), *_generations(evidence)]


def _serving(evidence: Evidence) -> Iterator[Finding]:
    """Says why a model that passed is not there for its clients: nothing else of the run tells that."""
    live = find(evidence.status.conditions, "Live")
    logs = evidence.command("logs", evidence.run.name, "--stage", "serve")
    fix = f"mend what it names; `{logs}` shows what its server said"
    if live is None or live.status != "False":
        return
    if live.reason == "RolloutFailed" and evidence.status.phase is Phase.FAILED:
        yield Finding(Level.PROBLEM, "endpoint", "the model passed and could not be served", live.message, fix)
    elif live.reason == NOT_ANSWERING:
        figure = evidence.silence or live.message
        yield Finding(Level.PROBLEM, "endpoint", "the model passed and does not answer", figure, fix)
    elif evidence.status.phase is Phase.ROLLING_OUT:
        # It may only take its time.
        figure = evidence.silence or live.message
        yield Finding(Level.NOTE, "endpoint", "the model passed and does not answer yet", figure)
    elif live.reason == STOPPED:
        yield Finding(Level.NOTE, "endpoint", "it is stopped", live.message)


_IN_ITS_TURN = ("Waiting", "AdmissionCheck")
"""Reasons of Queued that are no more than a queue at work."""


def _waits(evidence: Evidence) -> Iterator[Finding]:
    for blocker in blockers.blockers(evidence.status):
        patience = blocker.type == "Queued" and blocker.reason in _IN_ITS_TURN
        level = Level.NOTE if patience else Level.PROBLEM
        what = "it goes on with a warning" if blockers.is_warning(blocker) else f"it waits: {blockers.title(blocker)}"
        yield Finding(level, evidence.run.name, what, blocker.message)


def _steps(evidence: Evidence) -> Iterator[Finding]:
    for step in evidence.status.stages:
        if step.state in (StepState.FAILED, StepState.WAITING):
            error = evidence.errors.get(step.name)
            message = error.message if error else step.message or "it left no reason"
            title, fix = _remedy(evidence, step.name, error.kind if error else "", message)
            counted = f"; {step.failures} of the {evidence.run.spec.retries + 1} failures that end a run"
            attempts = f"attempt {step.attempt}{counted if step.failures else ''}"
            yield Finding(Level.PROBLEM, step.name, title, f"{message} ({attempts})", fix)
        elif step.state is StepState.SUCCEEDED and step.progress is not None and step.progress.warning:
            yield Finding(Level.PROBLEM, step.name, "it ended with a warning", step.progress.warning)
        for warning in (step.progress.warnings or ()) if step.progress is not None else ():
            yield Finding(Level.NOTE, step.name, _warns_of(warning), warning)


_NEVER = re.compile(r"evaluation\.gates\[\d+\] \(.*?\) can never pass")


def _warns_of(warning: str) -> str:
    """Returns what a warning is called: by its gate where it is of one."""
    found = _NEVER.match(warning)
    return found.group() if found else "it warns"


def _remedy(evidence: Evidence, step: str, kind: str, message: str) -> tuple[str, str]:
    """Returns what a failure is called and what to change."""
    stages = {stage.name: stage for stage in evidence.run.spec.stages}
    killed = any(sign in message for sign in ("137", "SIGKILL", "signal 9", "OOMKilled"))
    if kind == "OutOfMemory" or killed or "out of memory" in message.lower():
        return "it ran out of memory", _less_memory(stages.get(step))
    known = {
        "NoSpace": (
            "the disk is full",
            f"free space, or lower checkpoints.keep (it is {evidence.run.spec.checkpoints.keep})",
        ),
        "Diverged": (
            "the loss is no number any more",
            "lower optimizer.learningRate, raise optimizer.warmupRatio",
        ),
        "BadCheckpoint": (
            "a checkpoint is damaged",
            "it is found by its digest and never loaded; run again to go on from the one before",
        ),
        "Overlap": (
            "held-out data overlaps with the training data",
            "take the overlapping rows out of evaluation.data or of data.train",
        ),
        "DamagedShard": (
            "prepared data is damaged",
            "it is found by its digest and never read; run again to prepare it again",
        ),
        "BadData": (
            "the data is not right",
            "mend the line that is named, then run again",
        ),
        "FetchFailed": (
            "an object store or the hub did not give what was asked of it",
            "see that it answers and that what is named is not written to meanwhile",
        ),
        "PlanChanged": (
            "its plan was replaced",
            "find out who may write ConfigMaps in this namespace; the operator puts its own back",
        ),
    }
    return known.get(kind, ("it failed", f"see `{evidence.command('logs', evidence.run.name, '--stage', step)}`"))


def _less_memory(stage: Any) -> str:
    if stage is None:
        return "close other programs, or choose a smaller model"
    parts: list[str] = []
    if stage.batch.micro_sequences != 1:
        parts.append(
            f"set batch.microSequences to 1 (the batch stays as it is; {stage.batch.micro_sequences or 'chosen'} now)"
        )
    if stage.memory.gradient_checkpointing != "Enabled":
        parts.append("set memory.gradientCheckpointing to Enabled")
    parts.append(f"lower maxLength (it is {stage.max_length})")
    if stage.adapter is None:
        parts.append("train an adapter: {method: LoRA}")
    return ", ".join(parts)


def _data(evidence: Evidence) -> Iterator[Finding]:
    stages = (evidence.prepared or {}).get("stages", {})
    for stage in evidence.run.spec.stages:
        train = stages.get(stage.name, {}).get("train", {})
        documents, truncated = train.get("documents", 0), train.get("truncated", 0)
        if documents and truncated / documents > TRUNCATED:
            yield Finding(
                Level.NOTE, stage.name, "documents are longer than maxLength",
                f"{truncated} of {documents} lost their end at {stage.max_length} tokens",
                f"raise maxLength of stage {stage.name}",
            )  # fmt: skip


def _gates(evidence: Evidence) -> Iterator[Finding]:
    evaluation = evidence.status.evaluation
    for metric in evaluation.metrics if evaluation else ():
        value = "was not computed" if metric.value is None else f"is {metric.value:.4g}"
        if metric.verdict is Verdict.FAIL:
            yield Finding(
                Level.PROBLEM,
                "gate",
                f"{metric.title} did not pass",
                f"it {value}, asked was {metric.threshold}",
                _better(evidence),
            )
        elif metric.verdict is Verdict.INCONCLUSIVE:
            yield Finding(
                Level.PROBLEM,
                "gate",
                f"{metric.title} could not be judged",
                f"it {value}: {metric.reason or 'no reason'}",
                _how_to_judge(evidence, metric),
            )


def _better(evidence: Evidence) -> str:
    """Returns what may let a gate pass that did not: the run itself stays as it is."""
    better = "train longer or on more data" if evidence.run.spec.stages else "take another model"
    return f"{better}, or ask for less, in a run of another metadata.name"


def _how_to_judge(evidence: Evidence, metric: MetricStatus) -> str:
    """Returns what lets a gate be judged that could not be. The rows of a run are fixed, and a held one alone is judged
    again, on the same."""
    run, needed = evidence.run.name, remedy.of_gate(metric)
    if needed is not Remedy.CAUSE:
        return f"{needed}, {remedy.in_another_run(run)}"
    if evidence.status.phase is Phase.HELD:
        return f"{needed}, then `{evidence.command('reevaluate', run)}`"
    return f"{needed}, and judge the model {remedy.in_another_run(run)}"


def _generations(evidence: Evidence) -> Iterator[Finding]:
    report = evidence.report
    if report is None:
        return
    metrics: Mapping[str, float] = report.get("metrics", {})
    generation = report.get("candidate", {}).get("generation", {})
    samples: Sequence[Mapping[str, Any]] = generation.get("samples", ())
    bigger = (
        "train longer or on more data, or make the model larger (layers, hiddenSize)"
        if evidence.run.spec.stages
        else "nothing was trained: take another model, train this one, or round it less (export.quantization)"
    )
    if (perplexity := metrics.get("perplexity", 0)) >= POOR_PERPLEXITY:
        figure = f"perplexity {perplexity:.1f} on held-out text; below 50 is fair, below 20 good"
        # What is fair depends upon the data; whoever set gates knew theirs.
        passed = evidence.status.evaluation is not None and evidence.status.evaluation.verdict is Verdict.PASS
        level = Level.NOTE if passed else Level.PROBLEM
        yield Finding(level, "generation", "the model predicts held-out text poorly", figure, bigger)
    if (empty := metrics.get("empty_rate", 0)) > EMPTY:
        figure = f"{empty:.0%} of the answers are empty{_example(samples, lambda text: not text.strip())}"
        fix = "check that the training answers are not empty, and that prompts look like those of the Chat stage"
        yield Finding(Level.PROBLEM, "generation", "answers are empty", figure, fix)
    if (rate := metrics.get("repetition_rate", 0)) > REPEATING:
        figure = f"{rate:.0%} of 4-grams were in the answer before{_example(samples, _repeats)}"
        yield Finding(Level.PROBLEM, "generation", "answers repeat themselves", figure, bigger)
    if 0 < (varied := metrics.get("distinct_2", 1)) < UNVARIED and rate <= REPEATING:
        figure = f"{varied:.0%} of all 2-grams are different"
        yield Finding(
            Level.NOTE, "generation", "answers are much alike", figure, "use prompts that differ more, or train shorter"
        )
    yield from _unended(evidence, generation)
    if "recall_rate" in metrics and metrics["recall_rate"] < RECALLED:
        wrong = next((sample for sample in samples if sample.get("exact") is False), None)
        shown = f": wanted {_quote(wrong['wanted'])}, got {_quote(wrong['answer'])}" if wrong else ""
        figure = f"{metrics['recall_rate']:.0%} of the recall prompts are answered to the letter{shown}"
        yield Finding(Level.PROBLEM, "generation", "it recalls little of what it was to learn", figure, bigger)


def _unended(evidence: Evidence, generation: Mapping[str, Any]) -> Iterator[Finding]:
    reasons: Mapping[str, int] = generation.get("finish_reasons", {})
    total, cut = sum(reasons.values()), reasons.get("length", 0)
    if total and cut / total > CUT:
        stages = evidence.run.spec.stages
        chat = any(stage.objective != "CausalLM" for stage in stages)
        figure = f"{cut} of {total} answers reach {generation.get('max_new_tokens')} tokens without an end of turn"
        fix = (
            "raise evaluation.maxNewTokens, or train the Chat stage longer"
            if chat
            else "raise evaluation.maxNewTokens, or see that generation_config.json names what ends its answers"
            if not stages
            else "add a Chat stage: no training showed the model where an answer ends"
        )
        yield Finding(Level.PROBLEM, "generation", "answers do not end", figure, fix)


def _example(samples: Sequence[Mapping[str, Any]], wanted: Any) -> str:
    for sample in samples:
        if wanted(str(sample.get("answer", ""))):
            asked = sample.get("conversations", [{}])[-1].get("content", "")
            return f", as to {_quote(asked)}: {_quote(sample['answer'])}"
    return ""


def _repeats(text: str) -> bool:
    grams = [text[start : start + 4] for start in range(len(text) - 3)]
    return bool(grams) and 1 - len(set(grams)) / len(grams) > REPEATING


def _quote(text: str) -> str:
    flat = " ".join(str(text).split())
    return f"“{flat if len(flat) <= 60 else flat[:59] + '…'}”"
