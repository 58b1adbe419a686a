"""What is told of a run at its end: the figures of its evaluation, the verdict, and the digests that it names."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

from slipway_core.plan import Plan
from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError, Manifest
from slipway_core.protocol.judged import Judged
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.tracking.metric_rows import last_step
from slipway_trainer.tracking.tracker import Conclusion


def conclusion(plan: Plan, workspace: Workspace, judged: Judged) -> Conclusion:
    """Returns what there is to tell. The verdict is the record's; a report and a manifest that are of another model,
    or not there, add nothing."""
    manifest = _manifest(workspace, judged)
    gates = {one.key: one.value for one in judged.metrics if one.value is not None}
    metrics = {**_measured(workspace, judged), **gates}
    facts = {
        "verdict": judged.verdict.value,
        "reason": judged.reason,
        "gates": "; ".join(
            f"{one.title} {_show(one.value)} ({one.threshold}): {one.verdict}" for one in judged.metrics
        ),
        "plan_digest": plan.digest,
        "model_digest": judged.artifact_digest,
        "evaluation_data_digest": judged.data_digest,
        "compared_with": judged.baseline_digest,
        **({f"data.{name}": digest for name, digest in manifest.data.items()} if manifest is not None else {}),
    }
    return Conclusion(
        judged=judged,
        axis=sum(last_step(workspace.stage(stage.name).metrics) for stage in plan.stages),
        seconds=_made(manifest),
        metrics={f"evaluation/{name}": value for name, value in metrics.items() if math.isfinite(value)},
        facts={name: value for name, value in facts.items() if value},
    )


def _manifest(workspace: Workspace, judged: Judged) -> Manifest | None:
    try:
        manifest = artifact.read(workspace.artifact)
    except ArtifactError:
        return None
    return manifest if manifest.digest == judged.artifact_digest else None


def _measured(workspace: Workspace, judged: Judged) -> dict[str, float]:
    try:
        report: Any = json.loads(workspace.report(judged.number).read_text(encoding="utf-8"))
        if report["artifact"]["digest"] != judged.artifact_digest:
            return {}
        return {str(name): float(value) for name, value in report["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _made(manifest: Manifest | None) -> float:
    if manifest is None:
        return 0.0
    return datetime.fromisoformat(manifest.created_at.replace("Z", "+00:00")).timestamp()


def _show(value: float | None) -> str:
    return "has no value" if value is None else f"{value:.6g}"
