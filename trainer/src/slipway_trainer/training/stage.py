"""What one rank does in a training stage: set up, go on where the last attempt was, train, and write the outcome."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from slipway_core.plan import Plan
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.stage import Stage
from slipway_host.limits import peak_memory, usable_physical_cores
from slipway_trainer.batches import mixed_rows
from slipway_trainer.batches.row_stream import Extent
from slipway_trainer.batches.shards import Shards
from slipway_trainer.model import (
    compiled_blocks,
    cut_linear,
    document_probe,
    embedding_noise,
    preference_loss,
    stage_model,
)
from slipway_trainer.model.next_token_loss import NextTokenLoss
from slipway_trainer.model.preference_loss import PreferenceLoss
from slipway_trainer.step.errors import BadData, Interrupted, StepFailure, Stop
from slipway_trainer.step.progress import Metrics, Reporter
from slipway_trainer.step.signals import StopFlag
from slipway_trainer.tokens import tokenizer
from slipway_trainer.tracking.following import told_with
from slipway_trainer.training import (
    auto_settings,
    devices,
    division,
    failures,
    model_flops,
    optimizer,
    precision,
    process_group,
    randomness,
    reference,
    resolved,
    stage_end,
)
from slipway_trainer.training import deepspeed_engine as engines
from slipway_trainer.training.checkpoints import checkpoint_space, resume
from slipway_trainer.training.checkpoints.atomic_checkpoints import Checkpoints
from slipway_trainer.training.checkpoints.train_state import TrainState
from slipway_trainer.training.loop import Training
from slipway_trainer.training.micro_batches import MicroBatches, Windows
from slipway_trainer.training.pace import Pace
from slipway_trainer.training.process_group import Ranks
from slipway_trainer.training.resolved import Resolved
from slipway_trainer.training.stage_attempt import StageAttempt
from slipway_trainer.training.step_report import StepReport
from slipway_trainer.training.validation import ValidationSet


def train_stage(
    plan: Plan, ws: Workspace, *, stage: str, attempt: int, ranks: Ranks, stop: StopFlag | None = None
) -> StepResult:
    """Trains a stage as one rank of it. The result is that of rank 0.

    From its first step on a stage ends at the end of a step, when `stop` says so: by itself that is a flag that SIGTERM
    and SIGINT set. Before, a signal ends the process wherever it is.

    Raises LostPeers when another rank failed first, OutOfMemory, and what `Training.train` raises.
    """
    tracked = ws.stage(stage).tracking
    reporter = Reporter(stage, beside=lambda progress: told_with(progress, tracked)) if ranks.first else None
    with reporter.at_work() if reporter else contextlib.nullcontext():
        try:
            with cut_linear.for_one_stage():
                return _train(StageAttempt(plan, ws, plan.stage(stage), attempt, ranks, reporter), stop)
        except StepFailure as failure:
            failure.progress = reporter.reached() if reporter else None
            raise
        except Stop as signalled:
            interrupted = Interrupted(str(signalled))
            interrupted.progress = reporter.reached() if reporter else None
            raise interrupted from None
        except Exception as error:
            failure = failures.in_our_words(error, ws.stage(stage).root, ranks)
            if failure is None:
                raise
            raise failure from None


def _train(attempt: StageAttempt, stop: StopFlag | None) -> StepResult:
    """Does all of it, from the prepared data to the outcome."""
    stage, ranks = attempt.stage, attempt.ranks
    attempt.say("loading data and model")
    _share_cores(ranks)
    shards, aside = _data(attempt)
    process_group.connect(ranks)
    pad_id = int(tokenizer.load(attempt.workspace).pad_token_id)  # type: ignore[arg-type]
    stream = mixed_rows.of_stage(stage, shards, shards.mixture)

    # Rank 0 reads it for all: another rank might read what rank 0 has written since.
    decided = process_group.of_first(resolved.read(attempt.folder.resolved), ranks)
    chosen = decided.precision if decided else precision.of_stage(stage, ranks.device)
    cut = division.of_stage(attempt, chosen, decided)
    model = stage_model.load_for_stage(
        attempt.plan,
        attempt.workspace,
        stage.name,
        device=ranks.device,
        dtype=precision.DTYPES[chosen],
        tokens=shards.tokens,
        target_modules=decided.target_modules if decided else None,
        pieces=cut,
    )
    told_apart = _told_apart(attempt, model, shards)
    if decided is None:
        decided = auto_settings.decide(attempt, model, chosen, stream, shards, told_apart)
    _check_begun(decided, shards)
    if decided.world_size != ranks.world:
        decided = auto_settings.decide_anew(attempt, model, decided)
    if decided.packed and not told_apart.packed:
        # Another device or library than those of the first attempt; what a step learns stays the same.
        attempt.log(f"one document a row from here on: {told_apart.reason}")
        decided = replace(decided, packed=False)
    if decided.compile and (lacks := auto_settings.lacking(attempt)):
        attempt.log(f"blocks are not compiled from here on: {lacks}")
        decided = replace(decided, compile=False)

    compares = stage.preference is not None and preference_loss.compares(stage.preference)
    weights = reference.weights_digest(model) if compares and (ranks.first or cut is not None) else ""
    engine = _engine(attempt, model, decided)
    flops, pace = model_flops.of_model(model, stage.max_length), _pace(ranks, decided)
    splits = {"train": shards} | ({} if aside is None else {"validation": aside})
    micro = {name: _micro_batches(attempt, split, decided, pad_id) for name, split in splits.items()}
    if compares:
        known = reference.of_stage(attempt, engine, micro, weights=weights, precision=decided.precision)
        micro = {name: replace(own, reference=known[name]) for name, own in micro.items()}
    checkpoints = Checkpoints(
        attempt.folder, keep=attempt.plan.checkpoints.keep, fence=attempt.fence, ranks=ranks, log=attempt.log
    )
    if ranks.first:
        checkpoint_space.require(model, stage, checkpoints)
    resumed = resume.resume(engine, checkpoints)
    state = resumed or TrainState()
    with (
        contextlib.closing(checkpoints),
        _stop_flag(stop) as flag,
        _step_report(attempt, state, decided) as report,
    ):
        training = Training(
            stage=stage,
            engine=engine,
            windows=Windows(micro["train"], stream, Extent(decided.total_rows, decided.total_steps, decided.sequences)),
            validation=ValidationSet(micro["validation"]) if aside is not None and aside.n_documents else None,
            checkpoints=checkpoints,
            every_steps=attempt.plan.checkpoints.every_steps,
            every_seconds=attempt.plan.checkpoints.every_seconds,
            resolved=decided,
            ranks=ranks,
            stop=flag,
            report=report,
            pace=pace,
            flops=flops,
            late=ranks.device.type == "cuda",
            saved_step=resumed.step if resumed else None,
            saved_best=(state.best_step, state.best_loss, state.best_accuracy),
        )
        state = training.train(state)
    return stage_end.end(attempt, engine, checkpoints, state, decided)


def _pace(ranks: Ranks, decided: Resolved) -> Pace:
    """Returns what tells how fast it goes. On a GPU what ranks send one another goes beside the computing, so nobody
    can say from here what it costs."""
    speed = devices.operations_per_second(ranks.device, decided.precision)
    told = ranks.world > 1 and ranks.device.type == "cpu"
    pace = Pace(tells_communication=told, peak_operations=None if speed is None else speed * ranks.world)
    if told:
        process_group.time_collectives(lambda: pace.on("communication"))
    return pace


def _peak_memory(ranks: Ranks) -> int | None:
    if ranks.device.type == "cuda":
        return torch.cuda.max_memory_allocated(ranks.device)
    return peak_memory()


def _share_cores(ranks: Ranks) -> None:
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, usable_physical_cores() // ranks.local_world))


def _data(attempt: StageAttempt) -> tuple[Shards, Shards | None]:
    """Returns what is learned, and what was set aside to validate on."""
    prepared, folder = attempt.workspace.prepared, attempt.folder
    if not prepared.is_file():
        raise BadData(f"{prepared}: there is no such file: the data was not prepared. Run prepare first")
    asked = attempt.stage.data.validation is not None
    return Shards.open(folder.data("train")), Shards.open(folder.data("validation")) if asked else None


def _told_apart(attempt: StageAttempt, model: Any, shards: Shards) -> document_probe.Found:
    """Returns whether the model keeps the documents of a row apart on every rank; the same on all of them."""
    found = document_probe.look(model, shards.tokens, max_length=attempt.stage.max_length)
    everyone = process_group.of_all(found, attempt.ranks)
    return next((other for other in everyone if not other.packed), everyone[0])


def _check_begun(decided: Resolved, shards: Shards) -> None:
    """Raises BadData when the stage began with other data."""
    if decided.data_digest != shards.digest:
        raise BadData(
            f"{shards.folder}: is not the data that this stage began with ({shards.digest[:19]}… is there, "
            f"{decided.data_digest[:19]}… was). Start a run under another name"
        )


def _engine(attempt: StageAttempt, model: Any, decided: Resolved) -> Any:
    if decided.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    stage, ranks = attempt.stage, attempt.ranks
    module = _loss(stage, model, decided)
    if decided.compile:
        # Not before, since the loss runs the model to find out about it.
        compiled_blocks.compile_each(model)
    if stage.neftune_noise_alpha is not None:
        embedding_noise.attach(module, stage.neftune_noise_alpha)
    config = engines.configuration(
        precision=decided.precision,
        zero_stage=decided.zero_stage,
        micro_batch=decided.micro_batch,
        max_grad_norm=stage.optimizer.max_grad_norm,
        world=ranks.world,
        device=ranks.device.type,
        offload=stage.memory.offload,
    )
    engines.fit_bucket(config, module)
    made = optimizer.make(module, stage, ranks.device)
    if words := optimizer.in_words(made):
        attempt.log(words)
    engine = engines.initialize(module, made, config)
    # What is random from here on (dropout, noise) differs between ranks, as their rows do.
    randomness.seed_everything(stage.seed * 10_007 + ranks.rank)
    return engine


def _loss(stage: Stage, model: Any, decided: Resolved) -> NextTokenLoss | PreferenceLoss:
    attention, sharded = model.config._attn_implementation, decided.zero_stage == 3
    if stage.preference is not None:
        return PreferenceLoss(model, stage.preference, attention=attention, packed=decided.packed, sharded=sharded)
    return NextTokenLoss(
        model, attention=attention, packed=decided.packed, sharded=sharded, smoothing=stage.label_smoothing
    )


def _micro_batches(attempt: StageAttempt, shards: Shards, decided: Resolved, pad_id: int) -> MicroBatches:
    return MicroBatches(
        shards,
        max_length=attempt.stage.max_length,
        micro_batch=decided.micro_batch,
        packed=decided.packed,
        pad_id=pad_id,
        ranks=attempt.ranks,
    )


@contextlib.contextmanager
def _stop_flag(given: StopFlag | None) -> Iterator[StopFlag]:
    """Gives the flag that ends the training at the end of a step: by itself one that signals set meanwhile."""
    if given is not None:
        yield given
        return
    flag = StopFlag().install()
    try:
        yield flag
    finally:
        flag.restore()


@contextlib.contextmanager
def _step_report(attempt: StageAttempt, state: TrainState, decided: Resolved) -> Iterator[StepReport | None]:
    """Gives what tells the steps after this state; nothing where this is not rank 0."""
    reporter = attempt.reporter
    if reporter is None:
        yield None
        return
    reporter.progress = state.progress(decided.total_steps)
    with contextlib.closing(Metrics(attempt.folder.metrics, after_step=state.step)) as metrics:
        yield StepReport(
            reporter, metrics, attempt.fence, decided.total_steps, peak_memory=lambda: _peak_memory(attempt.ranks)
        )
