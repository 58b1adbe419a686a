"""Measures the exported model, and the live one on the same data, and writes a report with every figure and sample.

It measures and does not judge: the gates are held against the result by whoever started the step.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from slipway_core.lifecycle import verdict
from slipway_core.lifecycle.verdict import BASE, BASELINE
from slipway_core.plan import Plan
from slipway_core.protocol import artifact, quantized
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_core.protocol.commands import Baseline, Inputs
from slipway_core.protocol.step_result import EvaluationResult, StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_host.files import json_lines, write_atomically
from slipway_trainer.evaluation import base_model as bases
from slipway_trainer.evaluation import baseline as baselines
from slipway_trainer.evaluation import (
    engine_choice,
    evaluation_data,
    findings,
    live_training,
    measure,
    perplexity,
    vllm_engine,
)
from slipway_trainer.evaluation.engine_choice import Work
from slipway_trainer.evaluation.evaluation_data import EvaluationData
from slipway_trainer.evaluation.findings import Findings, Other
from slipway_trainer.evaluation.judge import judging
from slipway_trainer.evaluation.live_training import LiveTraining
from slipway_trainer.evaluation.measure import Measured
from slipway_trainer.evaluation.parity import KeptRecord
from slipway_trainer.judge import key as judge_key
from slipway_trainer.model import config_file, lineage
from slipway_trainer.step import disk_space
from slipway_trainer.step.errors import BadArtifact
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Reporter


def run(
    plan: Plan,
    workspace: Workspace,
    *,
    attempt: int,
    baseline: str | None = None,
    held_out: str | None = None,
    artifact_digest: str | None = None,
) -> StepResult:
    """Measures `workspace.artifact` and writes `workspace.report(attempt)`.

    Args:
        baseline: `URI@digest` of the live version. When it cannot be measured its metrics are left out and
            `missing["baseline"]` says why, so that a gate on a regression is inconclusive and never passes.
        held_out: digest of the held-out data by the run's record. Who can write in the workspace cannot change that.
        artifact_digest: digest of the model by the same.

    Raises BadArtifact when the artifact is not what its manifest says or another one, BadData when prepared data is
    missing, DamagedShard when it is not what prepare reported, BadConfig when the judge's key is not there.
    """
    # What an attempt that is interrupted leaves to the next one: so it has got on.
    brought = (workspace.fetched_live, workspace.fetched_verdicts.parent)
    reporter = Reporter("evaluate", kept=lambda: sum(map(disk_space.taken, brought)))
    with reporter.at_work():
        live = baselines.parse(baseline) if baseline else None
        # First: a key that is missing costs no measuring then, and what this process starts has none.
        key = judge_key.take(plan)
        return _evaluate(plan, workspace, attempt, live, Inputs(held_out, artifact_digest), reporter, key)


def _evaluate(
    plan: Plan,
    workspace: Workspace,
    attempt: int,
    baseline: Baseline | None,
    known: Inputs,
    reporter: Reporter,
    key: str | None,
) -> StepResult:
    """Does all of it, from the artifact to the report."""
    fence = Fence(workspace.fence("evaluate"), attempt)
    manifest = _verified(workspace, known.artifact)
    data = evaluation_data.read(plan, workspace, known.held_out)
    # First, so that a store that does not answer costs no more than its own time.
    folder, trouble = baselines.bring(baseline, workspace, reporter, fence) if baseline else (None, {})
    compared = [workspace.artifact, *([folder] if folder is not None else [])]
    choice = engine_choice.choose(
        plan.evaluation.engine,
        quantized=any(map(_is_quantized, compared)),
        work=_work(plan, data, workspace.artifact),
        trouble=vllm_engine.trouble(workspace.artifact),
    )
    kept = KeptRecord(manifest)
    candidate = measure.measure_folder(
        "candidate",
        workspace.artifact,
        plan,
        data,
        reporter,
        choice,
        fetched=workspace.fetched_models,
        record=kept,
    )
    live, learned = None, None
    if folder is not None:
        learned = live_training.look(folder, data.texts)
        # By the same engine, so that what differs is the models.
        live, trouble = baselines.measure_live(
            folder, plan, data, reporter, candidate.choice or choice, candidate.window
        )
    base = bases.measure_base(plan, workspace, manifest, data, reporter, candidate.choice or choice, candidate.window)
    fence.check()
    judged = judging.judge(
        plan, workspace, candidate, live, base, trouble=trouble, key=key, reporter=reporter, check=fence.check
    )
    candidate, live, base = judged.candidate, judged.live, judged.base
    figures, estimates, reasons = findings.of_gates(
        plan.evaluation.gates,
        candidate.findings,
        live=Other(live.findings if live else None, trouble.get(BASELINE)),
        base=Other(base.findings, base.missing.get(BASE)),
    )
    result = StepResult(
        step="evaluate",
        attempt=attempt,
        metrics=candidate.metrics,
        missing=candidate.missing | trouble | base.missing,
        evaluation=EvaluationResult(
            number=attempt,
            artifact_digest=manifest.digest,
            data_digest=data.digest,
            scored_tokens=candidate.scored_tokens,
            baseline_digest=baseline.digest if baseline else None,
            baseline_metrics=live.metrics if live else {},
            baseline_overlap=learned.overlapping if learned else 0,
            baseline_note=learned.note if learned else None,
            base_digest=base.digest,
            base_metrics=base.metrics,
            recall_overlap=data.recall_overlap,
            parity_digest=kept.digest,
            judge=judged.agreement,
            estimates=estimates,
            figures=figures,
            reasons=reasons,
        ),
        warnings=reporter.warnings,
    )
    against = baseline and _against(baseline, live, learned)
    report = _report(plan, workspace, manifest, data, result) | {"candidate": candidate.report, BASELINE: against}
    if plan.compares_with_base:
        report[BASE] = base.report
    if judged.report is not None:
        report["judge"] = judged.report
    report["parity"] = kept.report
    others = live.findings if live else None
    _write(workspace, fence, attempt, report, candidate.findings, others, judged.transcript, kept.text)
    shutil.rmtree(workspace.fetched_live, ignore_errors=True)
    return result


def _work(plan: Plan, data: EvaluationData, folder: Path) -> Work:
    """Returns what answering is, by the size of the model's files and the type that its configuration names."""
    asked = [(len(data.prompts), plan.evaluation.max_new_tokens)]
    asked += [(task.documents, task.described.writes or 0) for task in data.tasks]
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    config = config_file.read(folder) if (folder / "config.json").is_file() else {}
    single = "float32" in (config.get("dtype"), config.get("torch_dtype"))
    return Work(
        prompts=sum(prompts for prompts, tokens in asked if tokens),
        tokens=sum(prompts * tokens for prompts, tokens in asked),
        weights=size // (4 if single else 2),
        on_cpu=not torch.cuda.is_available(),
    )


def _is_quantized(folder: Path) -> bool:
    # An adapter has no config.json of its own.
    return (folder / "config.json").is_file() and quantized.is_quantized(config_file.read(folder))


def _verified(workspace: Workspace, digest: str | None) -> Manifest:
    try:
        return artifact.verify(workspace.artifact, digest)
    except ArtifactError as error:
        raise BadArtifact(str(error)) from None


def _report(
    plan: Plan, workspace: Workspace, manifest: Manifest, data: EvaluationData, result: StepResult
) -> dict[str, Any]:
    """Returns what the report says, but for what each model did in detail."""
    return {
        "version": 1,
        "run": plan.run.name,
        "plan_digest": plan.digest,
        "number": result.attempt,
        "artifact": {
            "uri": f"file://{workspace.artifact.resolve()}",
            "digest": manifest.digest,
            **{name: told for name in ("merge_drift", "quantization") if (told := manifest.lineage.get(name))},
        },
        "data": {"digest": data.digest, "training": manifest.data, **data.report},
        "libraries": lineage.libraries(),
        "metrics": result.metrics,
        "missing": result.missing,
        "confidence": findings.CONFIDENCE,
        "gates": _gates(plan, result, data),
        "bands": {"good": f"perplexity < {perplexity.GOOD_BELOW:g}", "fair": f"perplexity < {perplexity.FAIR_BELOW:g}"},
        "band": perplexity.band(result.metrics.get("perplexity")),
    }


def _gates(plan: Plan, result: StepResult, data: EvaluationData) -> list[dict[str, Any]]:
    """Returns each gate with its data and its estimate: of one on a regression, how much worse than the other model."""
    assert result.evaluation is not None
    estimates, figures, reasons = (getattr(result.evaluation, name) for name in ("estimates", "figures", "reasons"))
    return [
        {
            "metric": gate.metric,
            "source": gate.source,
            "slice": gate.slice,
            **({"task": gate.task} if gate.task is not None else {}),
            **{name: value for name, value in figure._asdict().items() if name != "reason"},
            "reason": None if figure.reason is None else reasons[figure.reason],
            "threshold": verdict.threshold(gate, plan.evaluation.win_rate_over),
            "confidence": gate.confidence,
            "estimate": verdict.told(gate, estimate)._asdict() if estimate else None,
            "data": measured_on,
        }
        for gate, estimate, figure, measured_on in zip(
            plan.evaluation.gates, estimates, figures, data.of_gates, strict=True
        )
    ]


def _against(baseline: Baseline, live: Measured | None, learned: LiveTraining | None) -> dict[str, Any]:
    training = {"training": {"note": learned.note, **learned.report}} if learned else {}
    return {"uri": str(baseline), "digest": baseline.digest, **(live.report if live else {}), **training}


def _write(
    workspace: Workspace,
    fence: Fence,
    attempt: int,
    report: dict[str, Any],
    found: Findings,
    live: Findings | None,
    judge: list[str],
    parity: str | None,
) -> None:
    fence.check()
    workspace.evaluation(attempt).mkdir(parents=True, exist_ok=True)
    write_atomically(workspace.samples(attempt), json_lines(found.samples()))
    if live is not None and live.answers:
        write_atomically(workspace.live_samples(attempt), json_lines(baselines.samples(live.answers)))
    if judge:
        write_atomically(workspace.judge(attempt), "".join(judge))
    if parity is not None:
        write_atomically(workspace.parity(attempt), parity)
    text = json.dumps(report, ensure_ascii=False, allow_nan=False, indent=2)
    write_atomically(workspace.report(attempt), text + "\n")
