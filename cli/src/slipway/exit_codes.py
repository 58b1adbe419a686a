"""What the exit code of `slipway` says."""

from __future__ import annotations

from slipway_core.protocol import step_result
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.status import Phase, RunStatus, StepState, StepStatus

DONE = 0
FAILED = 1
BAD_INPUT = 2
NOT_LIVE = 3
"""Rejected by a gate or by what its endpoint requires, held because it could not be judged, or waiting for an
approval."""
INTERRUPTED = 130


class CliError(Exception):
    """Ends a command: the message is what a person reads, without a traceback."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class BadInput(CliError):
    """What was asked for, or the file, is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(message, BAD_INPUT)


INPUT_ERRORS = frozenset({"BadInput", "BadConfig", "BadData", "BadModel", "Overlap"})
"""Kinds of a step's error that say that the file, the data or the base model is wrong."""


def of_run(status: RunStatus, workspace: Workspace | None = None) -> int:
    """Returns the exit code of a run that went no further than its status says. One that failed because of what it
    was given ends like a file that is refused, though the mistake shows only when the data is read.

    Args:
        workspace: where its steps left their results; without it their messages in the status say why they failed.
    """
    if status.phase is Phase.FAILED and any(
        step.state is StepState.FAILED and _error_kind(workspace, step) in INPUT_ERRORS for step in status.stages
    ):
        return BAD_INPUT
    return _of_phase(status.phase)


def _error_kind(workspace: Workspace | None, step: StepStatus) -> str | None:
    if workspace is None:
        return error_of(step).kind
    try:
        result = step_result.decode(workspace.result(step.name, step.attempt).read_text(encoding="utf-8"))
    except (OSError, step_result.ResultError):
        return None
    return result.error.kind if result.error else None


def error_of(step: StepStatus) -> step_result.StepError:
    """Returns the error of a step that failed as its status tells it: `BadData: rows.jsonl:3: …`."""
    kind, colon, message = (step.message or "").partition(": ")
    if not colon or not kind.isalnum():
        return step_result.StepError(kind="", message=(step.message or "it left no reason")[:2048])
    return step_result.StepError(kind=kind[:64], message=message[:2048])


def _of_phase(phase: Phase) -> int:
    match phase:
        case Phase.SERVING | Phase.COMPLETED:
            return DONE
        case Phase.REJECTED | Phase.HELD | Phase.AWAITING_APPROVAL:
            return NOT_LIVE
        case Phase.FAILED:
            return FAILED
        case _:
            return INTERRUPTED
