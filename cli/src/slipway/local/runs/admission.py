"""From a file to a run of the state folder: new, the same again, or refused with the reason."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from slipway.local.state import RunFolder, State
from slipway_core import plan as plans
from slipway_core.lifecycle.annotations import RETRY_ANNOTATION
from slipway_core.lifecycle.publication import STEP as PUBLISH
from slipway_core.plan import ExecutorDefaults, Plan
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.model import Scratch
from slipway_core.resources.status import Phase, StepState
from slipway_core.resources.training_run import TrainingRun
from slipway_host.files import write_atomically

_MEBIBYTE = 1 << 20


class Refused(Exception):
    """The run cannot start as it is. The message names the field or thing, its value, and what to do."""


@dataclass(frozen=True)
class Admitted:
    folder: RunFolder
    run: TrainingRun
    plan: Plan
    new: bool


def admit(state: State, run: TrainingRun, source: Path, now: datetime) -> Admitted:
    """Enters a run into the state folder, or finds it there. Whoever calls it holds the run's lock.

    A run of the same name with another plan is refused, since it would mix two models in one workspace; but one that
    failed on its data has learned nothing, and gives way to the file that was mended. A failed run gets its retries
    back: starting it again is asking for that.

    Raises Refused.
    """
    folder = state.run(run.name)
    defaults = ExecutorDefaults(folder=str(source.resolve().parent))
    if not folder.exists():
        return _enter(state, folder, run, defaults, now)

    old = folder.load()
    kept = old.metadata.model_copy(
        update={
            "generation": (old.metadata.generation or 1) + (old.spec != run.spec),
            "annotations": {**old.metadata.annotations, **run.metadata.annotations},
        }
    )
    again = run.model_copy(update={"metadata": kept, "status": old.status})
    workspace = folder.workspace(again)
    before = folder.plan(again)
    plan = plans.resolve(again, defaults, version=before.version)
    if not plans.differences(before, plan):
        plan = plans.as_written(plan, before)
    if plan.digest != before.digest:
        if _learned_nothing(old):
            _empty(folder)
            return _enter(state, folder, run, defaults, now)
        raise Refused(_other_plan(run.name, before, plan))
    again = with_retry(again, now)
    if not (again.status and again.status.phase.finished) or again.metadata != old.metadata:
        _require_disk(plan, state.root, has=_size(workspace.root))
    if plan != before:
        write_atomically(workspace.plan, plan.to_json())
    if again.metadata != old.metadata or again.spec != old.spec:
        folder.save(again)
    return Admitted(folder, again, plan, new=False)


def _enter(state: State, folder: RunFolder, run: TrainingRun, defaults: ExecutorDefaults, now: datetime) -> Admitted:
    uid = str(uuid.uuid4())
    metadata = run.metadata.model_copy(update={"uid": uid, "creation_timestamp": timestamp(now), "generation": 1})
    new = run.model_copy(update={"metadata": metadata, "status": None})
    plan = plans.resolve(new, defaults)
    _require_disk(plan, state.root)
    folder.workspace(new).root.mkdir(parents=True, exist_ok=True)
    write_atomically(folder.workspace(new).plan, plan.to_json())
    folder.save(new)
    return Admitted(folder, new, plan, new=True)


def _learned_nothing(run: TrainingRun) -> bool:
    step = run.status.step("prepare") if run.status else None
    return step is not None and step.state is StepState.FAILED


def _empty(folder: RunFolder) -> None:
    """Removes all but the lock, which its holder has open. run.json goes first: without it there is no run."""
    (folder.root / "run.json").unlink()
    for path in folder.root.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def with_retry(run: TrainingRun, now: datetime) -> TrainingRun:
    """Returns a run that failed, or whose verdict could not be published, with its retries back, and any other run as
    it is."""
    published = run.status.step(PUBLISH) if run.status is not None else None
    unpublished = published is not None and published.state is StepState.FAILED
    if run.status is None or not (run.status.phase is Phase.FAILED or unpublished):
        return run
    annotations = {**run.metadata.annotations, RETRY_ANNOTATION: timestamp(now)}
    return run.model_copy(update={"metadata": run.metadata.model_copy(update={"annotations": annotations})})


def _other_plan(name: str, before: Plan, plan: Plan) -> str:
    found = plans.differences(before, plan)
    rows = [f"  {d.field}: {_written(d.was)} then, {_written(d.is_)} now" for d in found[:8]]
    more = [f"  … and {len(found) - 8} more"] if len(found) > 8 else []
    head = f"run {name} exists with another plan:"
    fix = f"Give this one another metadata.name, undo the change, or remove the old run with `slipway rm {name}`."
    return "\n".join([head, *rows, *more, fix])


def _written(value: object) -> str:
    """Returns a value as it may stand in the file: 8 is one of the ways to write 8.0."""
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else repr(value)


def _require_disk(plan: Plan, folder: Path, has: int = 0) -> None:
    """Refuses to start what cannot end; `has` is in bytes what the run has written before. Raises Refused with the
    figures."""
    needed = max(disk_needed(plan) - has, _MEBIBYTE)
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise Refused(
            f"{folder} has {free // _MEBIBYTE} MiB free and run {plan.run.name} needs about {needed // _MEBIBYTE} MiB; "
            "free space there, choose another --workdir, or lower checkpoints.keep"
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def disk_needed(plan: Plan) -> int:
    """Returns bytes that a run may need at its fullest, as far as the plan alone tells: checkpoints with fp32 weights
    and two moments, one more of them while it is written and the best one; the model of every stage; the artifact and
    its copy while it is written. A base model that is not there yet counts with nothing.
    """
    weights = 4 * parameters(plan.model.scratch) if plan.model.scratch else _base_size(plan)
    checkpoints = 3 * weights * (plan.checkpoints.keep + 2)
    return checkpoints * len(plan.stages) + weights * (len(plan.stages) + 2) + 64 * _MEBIBYTE


def parameters(scratch: Scratch) -> int:
    """Returns the number of weights of a new model, for a vocabulary as large as asked."""
    trained = scratch.tokenizer.train
    vocabulary = trained.vocab_size if trained else 32000
    hidden, heads = scratch.hidden_size, scratch.heads
    kv = hidden // heads * (scratch.kv_heads or heads)
    wide = scratch.intermediate_size or -(-8 * hidden // 3 // 32) * 32
    block = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * wide + 2 * hidden
    return vocabulary * hidden * (1 if scratch.tie_embeddings else 2) + scratch.layers * block + hidden


def _base_size(plan: Plan) -> int:
    source = plan.model.from_ or ""
    folder = Path(source.removeprefix("file://"))
    if not source.startswith("file://") or not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
