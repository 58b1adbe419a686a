"""The frame around every step: plan in, fence up, step run, result and exit code out."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.protocol import exit_codes, step_result, variables
from slipway_core.protocol.step_result import StepError, StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_fetching.errors import FetchError, Misconfigured, NoRoom, NothingThere, Refused, Unavailable
from slipway_host.files import is_full
from slipway_trainer.step.errors import (
    BadConfig,
    BadModel,
    FetchFailed,
    Interrupted,
    NoSpace,
    OutOfMemory,
    PlanChanged,
    StepFailure,
    Stop,
    warnings_of,
)
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.signals import STOP_SIGNALS

MESSAGE_LIMIT = 2048
OF_FETCHING: Mapping[type[FetchError], type[StepFailure]] = {
    Misconfigured: BadConfig,
    NothingThere: BadModel,
    Refused: BadModel,
    NoRoom: NoSpace,
    Unavailable: FetchFailed,
}
"""What the executor hears when something could not be fetched; the message stays."""

Body = Callable[[Plan, Workspace], StepResult]


def run_step(
    step: str,
    body: Body,
    *,
    plan_file: Path,
    folder: Path | None,
    attempt: int,
) -> int:
    """Runs a step and returns its exit code; the result is in the file that SLIPWAY_RESULT names.

    SIGTERM and SIGINT raise Stop wherever the step is, which only writes through atomic renames. A step that
    ends at a place of its own choosing installs a StopFlag first.
    """
    try:
        with _interruptible():
            workspace = Workspace((folder or plan_file.parent).resolve())
            plan = _load(plan_file)
            if step not in plan.steps:
                raise BadConfig(f"--stage {step}: the plan has no such step; it has {', '.join(plan.steps)}")
            Fence(workspace.fence(step), attempt).raise_()
            result = body(plan, workspace)
        code = exit_codes.DONE
    except BaseException as error:
        failure = as_failure(error)
        if failure is None:
            raise
        result = StepResult(
            step=step,
            attempt=attempt,
            error=step_error(failure),
            progress=failure.progress,
            warnings=warnings_of(error),
        )
        code = failure.exit_code
        print(f"{step}: {failure.kind}: {failure}", file=sys.stderr, flush=True)
    _write_result(result)
    return code


def as_failure(error: BaseException) -> StepFailure | None:
    """Returns what an exception means for the step; None when it is not an error at all (SystemExit)."""
    if isinstance(error, StepFailure):
        return error
    if isinstance(error, FetchError):
        return OF_FETCHING.get(type(error), FetchFailed)(str(error))
    if isinstance(error, Stop):
        return Interrupted(str(error))
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("stopped by Ctrl-C")
    if isinstance(error, SystemExit | GeneratorExit):
        return None
    if isinstance(error, OSError) and is_full(error):
        return NoSpace(f"{error.filename or 'the workspace'}: {error.strerror}. Free space there and start again.")
    traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfMemory(f"out of memory: {error}" if str(error) else "out of memory")
    where = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(where[-1].filename).name}:{where[-1].lineno})" if where else ""
    return StepFailure(f"{type(error).__name__}: {error}{place}")


def step_error(failure: StepFailure) -> StepError:
    message = str(failure) or type(failure).__name__
    return StepError(
        kind=failure.kind,
        message=message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 8] + " … (cut)",
    )


def _load(plan_file: Path) -> Plan:
    wanted = os.environ.get(variables.PLAN_DIGEST_VARIABLE)
    try:
        text = plan_file.read_text(encoding="utf-8")
        # First: another plan, readable or not, is one that is put right and never a fault of this one.
        if wanted is not None and (found := plans.digest_in(text)) != wanted:
            raise PlanChanged(
                f"{plan_file}: holds {f'the plan {found}' if found else 'no plan'}, and this attempt was started for "
                f"{wanted}"
            )
        return plans.load(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadConfig(f"{plan_file}: {where}: {first['msg']}") from None
    except (ValueError, OSError) as error:
        raise BadConfig(f"{plan_file}: {error}") from None


@contextmanager
def _interruptible() -> Iterator[None]:
    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Stop(f"stopped by {signal.Signals(number).name}; start it again and it goes on")

    previous = {number: signal.signal(number, interrupt) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _write_result(result: StepResult) -> None:
    path = os.environ.get(variables.RESULT_VARIABLE)
    if path:
        # In place: in a pod this is the termination message, a mounted file that cannot be replaced by a rename.
        Path(path).write_text(step_result.encode(result), encoding="utf-8")
