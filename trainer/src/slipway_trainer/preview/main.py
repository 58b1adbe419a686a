"""The frame around a preview: plan in, JSON and exit code out."""

from __future__ import annotations

import sys
from pathlib import Path

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.protocol import exit_codes
from slipway_core.resources import uris
from slipway_host.files import write_atomically
from slipway_trainer.judge import key as judge_key
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.preview import stage_sizes
from slipway_trainer.preview.beside import Beside
from slipway_trainer.step import run_step
from slipway_trainer.step.errors import StepFailure
from slipway_trainer.training import devices


def write(
    plan: Path,
    output: Path,
    *,
    device: str | None,
    tokens_per_second: float | None,
    rows: int,
    processes: int | None = None,
) -> int:
    """Writes the preview of a plan, and returns the exit code: BAD_INPUT where something would end the run.

    What cannot be shown at all goes to standard error, and no file is written.
    """
    try:
        asked = plans.load(plan.read_text(encoding="utf-8"))
        key = judge_key.out_of()  # Before any process is started, which would have it too.
        with Beside() as beside:
            # Before anything else is imported here: its imports take longer than all that this process does.
            if (device is None and devices.may_have_gpu()) or _needs_torch(asked):
                beside.import_torch()
            from slipway_trainer.preview import preview

            wanted = preview.Wanted(device, tokens_per_second, rows, processes)
            found = preview.of_plan(asked, wanted, beside, _say, judge_key=key)
    except BaseException as error:
        failure = run_step.as_failure(error)
        if failure is None:
            raise
        print(f"{failure.kind}: {failure}", file=sys.stderr)
        return failure.exit_code
    write_atomically(output, found.model_dump_json(by_alias=True) + "\n")
    return exit_codes.BAD_INPUT if found.problems else exit_codes.DONE


def write_memory(plan: Path, output: Path, *, device: str | None, processes: int | None) -> int:
    """Writes the memory of a plan, and returns the exit code: BAD_INPUT where a stage cannot fit.

    What cannot be told goes to standard error, and no file is written.
    """
    try:
        from slipway_trainer.preview import plan_memory

        found = plan_memory.of_plan(plans.load(plan.read_text(encoding="utf-8")), device, processes, _say)
    except BaseException as error:
        failure = run_step.as_failure(error)
        if failure is None:
            raise
        print(f"{failure.kind}: {failure}", file=sys.stderr)
        return failure.exit_code
    write_atomically(output, found.model_dump_json(by_alias=True) + "\n")
    return exit_codes.BAD_INPUT if any(stage.memory.refused for stage in found.stages) else exit_codes.DONE


def _needs_torch(plan: Plan) -> bool:
    """Whether it is certain. Of a model that is yet to be fetched nothing is known; what is wrong with one is said
    later."""
    uri = plan.model.from_
    if uri is not None and uris.parse(uri).remote:
        return False
    try:
        return not stage_sizes.are_told(plan, None if uri is None else model_folder(uri))
    except StepFailure:
        return False


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
