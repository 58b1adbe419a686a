"""What a run has left to judge it by: curves and reports from its workspace, errors from its status."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway import exit_codes
from slipway.cluster.kubectl import ClusterError, Kubectl
from slipway.cluster.pods import workspace_files
from slipway.diagnosis.run_findings import Evidence
from slipway.records.files import PLAN, Files
from slipway.training_metrics import StageMetrics, parse_stage
from slipway_core.protocol.workspace import WORKSPACE_MOUNT
from slipway_core.resources import uris
from slipway_core.resources.status import RunStatus, StepState
from slipway_core.resources.training_run import TrainingRun

Say = Callable[[str], None]


def curves(kubectl: Kubectl, run: TrainingRun, say: Say) -> list[StageMetrics]:
    """Returns the curves of every stage that has logged something."""
    if not _has_trained(run):
        return []
    return _curves(run, workspace_files.read(kubectl, run, list(_metrics(run).values()), say))


def gather(kubectl: Kubectl, run: TrainingRun, say: Say) -> Evidence:
    """Reads what a run has left so far; what is missing or damaged is left out."""
    status = run.status or RunStatus()
    errors = {
        step.name: exit_codes.error_of(step)
        for step in status.stages
        if step.state in (StepState.FAILED, StepState.WAITING)
    }
    prepare = status.step("prepare")
    if not _has_trained(run) and (prepare is None or prepare.state is not StepState.SUCCEEDED):
        # There is no file yet, and what keeps a pod of the run from starting would keep ours.
        return Evidence(run, status, errors=errors, options=kubectl.options)
    workspace = workspace_files.workspace_of(run)
    report = workspace.report(status.evaluation.number) if status.evaluation else None
    paths = [*_metrics(run).values(), workspace.prepared, *([report] if report else [])]
    try:
        files = workspace_files.read(kubectl, run, paths, say)
    except ClusterError as error:
        # What the status alone tells is worth hearing too.
        say(f"the files of run {run.name} cannot be read: {error}")
        files = {}
    return Evidence(
        run,
        status,
        _curves(run, files),
        _json(files.get(report)) if report else None,
        _json(files.get(workspace.prepared)),
        errors,
        options=kubectl.options,
    )


def files(kubectl: Kubectl, run: TrainingRun, names: Sequence[str], say: Say) -> Files:
    """Returns those of the files of a run's workspace that there are, and its plan; where they cannot be read, why."""
    status = run.status or RunStatus()
    prepare = status.step("prepare")
    if prepare is None or (prepare.state is not StepState.SUCCEEDED and not _has_trained(run)):
        # There is no file yet, and what keeps a pod of the run from starting would keep ours.
        return Files()
    workspace = workspace_files.workspace_of(run)
    try:
        found = workspace_files.read(kubectl, run, [workspace.root / name for name in names if name != PLAN], say)
        plan = workspace_files.plan_of(kubectl, run) if PLAN in names else None
    except ClusterError as error:
        return Files(trouble=f"the files of run {run.name} cannot be read: {error}")
    contents = {str(path.relative_to(workspace.root)): content for path, content in found.items()}
    return Files({**contents, PLAN: plan} if plan is not None else contents)


def folder(kubectl: Kubectl, uri: str, names: Sequence[str], say: Say) -> Files:
    """Returns those of the files that there are in a folder of a claim; where they cannot be read, why."""
    place = uris.parse(uri)
    if place.scheme != "pvc":
        return Files(trouble=f"{uri}: lies in no claim of the cluster, and is not fetched to be looked at")
    try:
        found = workspace_files.read_claim(kubectl, place.authority, Path(WORKSPACE_MOUNT, place.path), names, say)
    except ClusterError as error:
        return Files(trouble=f"{uri}: cannot be read: {error}")
    return Files(found) if found else Files(trouble=f"{uri}: has none of {', '.join(names)}")


def _has_trained(run: TrainingRun) -> bool:
    status = run.status or RunStatus()
    return any(step.attempt for stage in run.spec.stages if (step := status.step(stage.name)) is not None)


def _metrics(run: TrainingRun) -> dict[str, Path]:
    workspace = workspace_files.workspace_of(run)
    return {stage.name: workspace.stage(stage.name).metrics for stage in run.spec.stages}


def _curves(run: TrainingRun, files: Mapping[Path, bytes]) -> list[StageMetrics]:
    parsed = [parse_stage(name, files.get(path, b"").decode(errors="replace")) for name, path in _metrics(run).items()]
    return [stage for stage in parsed if stage.last_step]


def _json(content: bytes | None) -> Mapping[str, Any] | None:
    try:
        document = json.loads(content or b"null")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
