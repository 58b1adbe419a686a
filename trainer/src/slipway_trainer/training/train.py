"""One training stage: from the prepared data and the model of the stage before to a model or an adapter."""

from __future__ import annotations

import gc

from slipway_core.plan import Plan
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_host import imports
from slipway_trainer.step.errors import OutOfMemory
from slipway_trainer.step.fence import Fence
from slipway_trainer.tracking import choose
from slipway_trainer.tracking.following import following
from slipway_trainer.training import stage_output
from slipway_trainer.training.launching import launch


def run(plan: Plan, ws: Workspace, *, stage: str, attempt: int) -> StepResult:
    """Trains a stage, in this process or in several that it starts. One that is done already is left as it is.

    When the memory runs out, the micro batch is halved and the stage goes on from its last checkpoint; the steps stay
    the same, because what is in a step does not depend on the micro batch.

    Raises a StepFailure: see `loop.Training.train` and `stage_model.load_for_stage`.
    """
    done = stage_output.finished(ws.stage(stage), stage=stage, attempt=attempt)
    if done is not None:
        return done
    if not launch.is_first(plan.compute):
        choose.take_keys()
        return _in_less_memory(plan, ws, stage, attempt)
    with following(plan, ws, stage) as follower:
        result = _in_less_memory(plan, ws, stage, attempt)
    return result.model_copy(update={"progress": follower.beside(result.progress)}) if follower else result


def _in_less_memory(plan: Plan, ws: Workspace, stage: str, attempt: int) -> StepResult:
    while True:
        try:
            return _once(plan, ws, stage, attempt)
        except OutOfMemory as error:
            if not _halve(ws, stage, attempt):
                raise OutOfMemory(
                    f"{error}. One row at a time does not fit either: set memory.gradientCheckpointing: Enabled, a "
                    "smaller maxLength, memory.zeroStage: 3 with more processes, or train an adapter"
                ) from None
        # What the failed try held is garbage only after its traceback is gone.
        gc.collect()


def _once(plan: Plan, ws: Workspace, stage: str, attempt: int) -> StepResult:
    where = launch.layout(plan.compute)
    if where.world > 1 or plan.stage(stage).memory.divides_weights:
        return launch.run_ranks(where, plan, ws, stage=stage, attempt=attempt)
    with imports.of_libraries():
        from slipway_trainer.training.process_group import Ranks
        from slipway_trainer.training.stage import train_stage

    return train_stage(plan, ws, stage=stage, attempt=attempt, ranks=Ranks())


def _halve(ws: Workspace, stage: str, attempt: int) -> bool:
    """Returns whether the micro batch could be halved. Raises Superseded when a newer attempt has the stage: what is
    decided is its own then, and it may have less to fit."""
    from slipway_trainer.training import resolved

    path = ws.stage(stage).resolved
    decided = resolved.read(path)
    if decided is None or decided.micro_batch <= 1:
        return False
    Fence(ws.fence(stage), attempt).check()
    half = decided.halved()
    print(
        f"{stage}: out of memory with {decided.micro_batch} rows at once: going on with {half.micro_batch} from the "
        "last checkpoint; the global batch stays the same",
        flush=True,
    )
    half.write(path)
    return True
