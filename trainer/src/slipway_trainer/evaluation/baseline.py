"""What a gate on a regression compares with: the live version, measured on the same data where that can be done.

Where it cannot, the reason is among the metrics that are missing, so that such a gate is inconclusive and never passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway_core.lifecycle.verdict import BASELINE
from slipway_core.plan import Plan
from slipway_core.protocol.commands import Baseline
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.gate_metrics import JUDGE_METRICS
from slipway_fetching.errors import Misconfigured, NothingThere, Refused
from slipway_trainer.evaluation import answer_metrics, live_model, measure
from slipway_trainer.evaluation.engine_choice import Choice
from slipway_trainer.evaluation.evaluation_data import EvaluationData
from slipway_trainer.evaluation.generation import Answer
from slipway_trainer.evaluation.measure import Measured
from slipway_trainer.step.errors import BadArtifact, BadConfig, BadModel
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Reporter

SHOWN = 20
"""Prompts that the live version answers where no gate compares the answers: for people to look at."""
MOST_SAMPLES = 500
"""Answers of the live version that are kept."""
LONGEST_SAMPLE = 4000
"""Characters of each."""


def parse(text: str) -> Baseline:
    """Raises BadConfig for anything but URI@digest."""
    try:
        return Baseline.parse(text)
    except ValueError as error:
        raise BadConfig(f"--baseline {error}") from None


def bring(
    baseline: Baseline, workspace: Workspace, reporter: Reporter, fence: Fence
) -> tuple[Path | None, dict[str, str]]:
    """Returns where the live version is; None and the reason when there is none to measure."""
    folder = workspace.fetched_live
    try:
        found = live_model.folder_of(baseline.uri, baseline.digest, folder, say=reporter.say, check=fence.check)
    except (BadArtifact, BadModel, BadConfig, Misconfigured, NothingThere, Refused) as error:
        return None, _not_measured(error)
    return found, {}


def measure_live(
    folder: Path, plan: Plan, data: EvaluationData, reporter: Reporter, choice: Choice, window: int | None
) -> tuple[Measured | None, dict[str, str]]:
    """Returns what the live version did; None and the reason when it cannot be measured.

    Args:
        choice: the engine that measured the candidate.
        window: that of the candidate. The same for both, unless the live version takes less: its report says so then.
    """
    # Scoring text is cheap, answering prompts is not: all of them only when a gate compares the answers.
    gates = [gate for gate in plan.evaluation.gates if plan.evaluation.compared_with(gate) == "Live"]
    compared = any(gate.task is None and gate.metric in (*answer_metrics.METRICS, *JUDGE_METRICS) for gate in gates)
    used = data if compared else replace(data, prompts=data.prompts[:SHOWN])
    used = replace(used, tasks=[task for task in data.tasks if task.name in {gate.task for gate in gates}])
    # There is no other for it: two engines differ by more than two models may.
    same = replace(choice, asked=True)

    def measured(data: EvaluationData) -> Measured:
        return measure.measure_folder("live version", folder, plan, data, reporter, same, window=window)

    try:
        try:
            live = measured(used)
        except (BadArtifact, BadModel, BadConfig):
            if compared or not used.prompts:
                raise
            # What is there to be looked at alone must not cost a gate its figure.
            live = measured(replace(used, prompts=[]))
    except (BadArtifact, BadModel, BadConfig) as error:
        return None, _not_measured(error)
    return (live if compared else _of_text_alone(live)), {}


def _of_text_alone(live: Measured) -> Measured:
    """Takes out the figures of answers to a few of the prompts: beside the candidate's, of all, they would mislead. No
    gate asks for them."""
    findings = replace(live.findings, asked=False)
    figures, report = findings.at(), {**live.report, **measure.told_of(findings)}
    return replace(live, metrics=figures.metrics, missing=figures.missing, report=report, findings=findings)


def samples(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Returns the live version's answers to the first prompts, as `live-samples.jsonl` has them. `sample` is the line
    of samples.jsonl, from 0 on, that has the candidate's answer to the same prompt."""
    return [_sample(number, answer) for number, answer in enumerate(answers[:MOST_SAMPLES])]


def _sample(number: int, answer: Answer) -> dict[str, Any]:
    said = answer.parts.answer
    cut = {"cut": True} if len(said) > LONGEST_SAMPLE else {}
    source = {} if answer.prompt.source is None else {"source": answer.prompt.source}
    row = {"answer": said[:LONGEST_SAMPLE], "tokens": answer.tokens, "finish_reason": answer.finish_reason}
    return {"sample": number, **source, **row, **cut}


def _not_measured(error: Exception) -> dict[str, str]:
    return {BASELINE: f"the live version was not measured: {error}"[:1024]}
