"""What a gate on a regression compares with: the live version, measured on the same data where that can be done.

Where it cannot, the reason is among the metrics that are missing, so that such a gate is inconclusive and never passes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from slipway_core.lifecycle.verdict import BASELINE
from slipway_core.plan import Plan
from slipway_core.protocol.commands import Baseline
from slipway_core.protocol.workspace import Workspace
from slipway_fetching.errors import Misconfigured, NothingThere, Refused
from slipway_trainer.evaluation import answer_metrics, live_model, measure
from slipway_trainer.evaluation.engine_choice import Choice
from slipway_trainer.evaluation.evaluation_data import EvaluationData
from slipway_trainer.evaluation.measure import Measured
from slipway_trainer.step.errors import BadArtifact, BadConfig, BadModel
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Reporter


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
    # Scoring text is cheap, answering prompts is not: only when a gate compares the answers.
    prompts = any(
        gate.max_regression is not None and gate.metric in answer_metrics.METRICS for gate in plan.evaluation.gates
    )
    used = data if prompts else replace(data, prompts=[])
    # There is no other for it: two engines differ by more than two models may.
    same = replace(choice, asked=True)
    try:
        return measure.measure_folder("live version", folder, plan, used, reporter, same, window=window), {}
    except (BadArtifact, BadModel, BadConfig) as error:
        return None, _not_measured(error)


def _not_measured(error: Exception) -> dict[str, str]:
    return {BASELINE: f"the live version was not measured: {error}"[:1024]}
