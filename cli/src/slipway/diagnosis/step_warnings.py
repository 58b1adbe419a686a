"""What the steps of a run have found that whoever wrote it should know, as its status tells it."""

from __future__ import annotations

from slipway_core.resources.status import RunStatus, StepState, StepStatus


def of_run(status: RunStatus) -> list[str]:
    """Returns a line for each, in the order of the steps."""
    return [f"{step.name}: {warning}" for step in status.stages for warning in of_step(step)]


def of_step(step: StepStatus) -> list[str]:
    """Returns what a step has found, with what one that has ended still warned of: of one that runs that is a
    condition."""
    if step.progress is None:
        return []
    ended = step.state in (StepState.SUCCEEDED, StepState.FAILED)
    still = [step.progress.warning] if ended and step.progress.warning else []
    return [*(step.progress.warnings or ()), *still]
