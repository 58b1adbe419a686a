"""What a gate with `against: Base` compares with: the model that the first stage started from, measured on the same
data by the same code as the live version, whether one is live or not.

Where it cannot be measured, the reason is among the metrics that are missing, so that such a gate is inconclusive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from slipway_core.lifecycle.verdict import BASE
from slipway_core.plan import Plan
from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.gate_metrics import JUDGE_METRICS
from slipway_trainer.evaluation import answer_metrics, measure
from slipway_trainer.evaluation.engine_choice import Choice
from slipway_trainer.evaluation.evaluation_data import EvaluationData
from slipway_trainer.evaluation.findings import Findings
from slipway_trainer.model import lineage
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.step.errors import BadArtifact, BadConfig, BadModel, DamagedShard
from slipway_trainer.step.progress import Reporter


@dataclass(frozen=True)
class MeasuredBase:
    """What the base model did; nothing where no gate compares with it."""

    digest: str | None = None
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    """Those that a gate compares with."""
    missing: dict[str, str] = field(default_factory=dict[str, str])
    findings: Findings | None = None
    report: dict[str, Any] = field(default_factory=dict[str, Any])


def measure_base(
    plan: Plan,
    workspace: Workspace,
    manifest: Manifest,
    data: EvaluationData,
    reporter: Reporter,
    choice: Choice,
    window: int | None,
) -> MeasuredBase:
    """Measures the model that the run started from.

    Args:
        manifest: of the artifact, which says what that model was.
        choice: the engine that measured the candidate.
        window: longest input of the candidate. The same for both, unless the base takes less.
    """
    if not plan.compares_with_base:
        return MeasuredBase()
    gates = [gate for gate in plan.evaluation.gates if plan.evaluation.compared_with(gate) == "Base"]
    wanted = {gate.metric for gate in gates if gate.task is None}
    used = data if wanted & {*answer_metrics.METRICS, *JUDGE_METRICS} else replace(data, prompts=[])
    used = replace(used, tasks=[task for task in data.tasks if task.name in {gate.task for gate in gates}])
    uri, digest = plan.model.from_ or "", None
    try:
        folder = model_folder(uri, fetched=workspace.fetched_models)
        digest, trained = lineage.digest_of_model(folder), manifest.lineage.get("base", {}).get("digest")
        if digest != trained:
            raise BadModel(
                f"{uri} is not what the model was trained from: it has the digest {digest}, and that had {trained}"
            )
        found = measure.measure_folder(
            "base model", folder, plan, used, reporter, replace(choice, asked=True), window=window
        )
    except (BadArtifact, BadModel, BadConfig, DamagedShard) as error:
        reason = f"the base model was not measured: {error}"[:1024]
        return MeasuredBase(digest, missing={BASE: reason}, report={"uri": uri, "digest": digest, "missing": reason})
    absent = [f"{name} {found.missing[name]}" for name in sorted(wanted) if name in found.missing]
    return MeasuredBase(
        digest,
        metrics={name: found.metrics[name] for name in sorted(wanted) if name in found.metrics},
        missing={BASE: f"the base model: {'; '.join(absent)}"[:1024]} if absent else {},
        findings=found.findings,
        report={"uri": uri, "digest": digest, **found.report},
    )
