"""The training loop: one for every objective, model, precision and number of processes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from slipway_core.resources.stage import Stage
from slipway_trainer.step.errors import Diverged, Interrupted, NoSpace
from slipway_trainer.step.signals import StopFlag
from slipway_trainer.training import deepspeed_engine as engines
from slipway_trainer.training import optimizer, process_group, schedule
from slipway_trainer.training.checkpoints.atomic_checkpoints import CheckpointFailed, Checkpoints
from slipway_trainer.training.checkpoints.train_state import TrainState
from slipway_trainer.training.micro_batches import Window, Windows
from slipway_trainer.training.model_flops import ModelFlops
from slipway_trainer.training.pace import Pace
from slipway_trainer.training.process_group import Ranks
from slipway_trainer.training.read_back import ReadBack
from slipway_trainer.training.resolved import Resolved
from slipway_trainer.training.step_report import StepReport
from slipway_trainer.training.validation import ValidationSet


@dataclass(frozen=True)
class Taken:
    """An optimizer step whose figures the device may still be computing: to read them is to wait for it."""

    state: TrainState
    """After the step, but for its loss."""
    rate: float
    figures: ReadBack
    """Over all ranks: the mean loss of a target token, or loss, margin and accuracy of a pair."""
    norm: ReadBack | None
    """Of the gradient; None when the step was left out."""
    tokens: float = 0.0
    """Of all ranks, as are the operations."""
    operations: float = 0.0
    """That the model needs for them."""


@dataclass
class Training:
    """Everything that the loop works on."""

    stage: Stage
    engine: Any
    windows: Windows
    validation: ValidationSet | None
    checkpoints: Checkpoints
    every_steps: int | None
    """Steps between two checkpoints; None where time says."""
    every_seconds: float | None
    """Seconds between two checkpoints; None where steps say."""
    resolved: Resolved
    ranks: Ranks
    stop: StopFlag
    report: StepReport | None = None
    """Rank 0 alone."""
    pace: Pace = field(default_factory=Pace)
    flops: ModelFlops | None = None
    """What the model needs for a step, where that is known."""
    late: bool = False
    """Whether figures are read while the next step is computed: where a device computes beside this process."""
    clock: Callable[[], float] = time.monotonic
    saved_at: float = field(default=0.0, init=False)
    """By the clock, when the newest checkpoint was begun, or the training."""
    saved_step: int | None = None
    """Of the newest complete checkpoint."""
    saved_best: tuple[int | None, float | None, float | None] = (None, None, None)
    """Step, validation loss and accuracy of the best one that is complete."""

    def train(self, state: TrainState) -> TrainState:
        """Takes the steps from `state` to the end of the stage, or to where early stopping ends it.

        Raises Interrupted after a checkpoint when a signal asked for it, Diverged when a number is not finite, NoSpace
        when the first checkpoint cannot be written, Superseded when a newer attempt has the stage.
        """
        self.engine.train()
        self.pace.begin()
        started, before = self.clock(), state.seconds
        self.saved_at = started
        untold: Taken | None = None
        with ThreadPoolExecutor(1, "collate") as pool:
            ahead = self._ahead(pool, state.step)
            while state.step < self._steps and not self._stops_early(state):
                with self.pace.on("data"):
                    window = ahead.result()
                ahead = self._ahead(pool, state.step + 1)
                stop, counted, tokens, operations, unwritten, overdue = self._agree(window)
                if self.checkpoints.writing and not unwritten:
                    state = self._complete(state)
                if stop:
                    told = self._told(untold)
                    self._interrupt(state if told is None else _with_figures(state, told))
                rate = schedule.learning_rate(state.step, self._steps, self.stage.optimizer)
                taken = self._step(window, counted, rate, state)
                # While the device takes this step, the one before it is told.
                self._told(untold)
                state = _advanced(state, window, int(tokens), seconds=before + self.clock() - started)
                untold = replace(taken, state=state, tokens=tokens, operations=operations)
                due = self.validation is not None and self._validation_due(state.step)
                saves = bool(overdue) or self._checkpoint_due(state)
                if self.late and not due and not saves:
                    continue
                state = self._looked_at(untold)
                if due:
                    state = self._validate(replace(state, seconds=before + self.clock() - started))
                self._tell(replace(untold, state=state), measured=due)
                untold = None
                if saves or self._is_best(state):
                    state = self._save(state)
        state = self._complete(state)
        if self.report:
            self.report.ended(self.pace)
        return state

    def _agree(self, window: Window) -> list[float]:
        """Returns what all ranks have to know before a step, summed over them: whether to stop, what the loss is the
        mean of, all tokens, the operations that the model needs for them, how many are still writing a checkpoint, and
        whether it is time for one. The time is rank 0's."""
        over = self.ranks.first and self.every_seconds is not None and self.clock() - self.saved_at > self.every_seconds
        return self._sum(
            [
                float(self.stop.requested),
                float(window.counted),
                float(window.tokens),
                self.flops.of(window.tokens, window.targets, window.squares) if self.flops else 0.0,
                float(not self.checkpoints.written),
                float(over),
            ]
        )

    def _step(self, window: Window, counted: float, rate: float, state: TrainState) -> Taken:
        """Takes one optimizer step. What it returns may still be computed by the device.

        The loss of the step is the sum over all micro batches of all ranks, divided once by all their targets, or all
        their pairs.
        DeepSpeed averages gradients over ranks, hence the factor.
        """
        device = self.ranks.device
        scale = self.ranks.world / max(1.0, counted)
        sums = torch.zeros(1, dtype=torch.float64, device=device)
        last = len(window.batches) - 1
        for index, batch in enumerate(window.batches):
            self.engine.set_gradient_accumulation_boundary(index == last)
            summed = self.engine(batch.to(device)).reshape(-1)
            self.engine.backward(summed[0] * scale, scale_wrt_gas=False)
            sums = sums + summed.detach()
        with self.pace.on("communication"):
            figures = process_group.summed_on_device(sums, self.ranks) / max(1.0, counted)
        norm = self._clipped() if self._owns_clipping else None
        optimizer.set_learning_rate(self.engine.optimizer.param_groups, rate)
        self.engine.step()
        if norm is None:
            norm = self._norm_of_engine()
        return Taken(state, rate, ReadBack(figures), None if norm is None else ReadBack(norm.reshape(1)))

    def _told(self, taken: Taken | None) -> TrainState | None:
        """Tells a step that was not yet, and returns the state after it."""
        if taken is None:
            return None
        state = self._looked_at(taken)
        self._tell(replace(taken, state=state), measured=False)
        return state

    def _looked_at(self, taken: Taken) -> TrainState:
        """Waits for the figures of a step. Returns the state with its loss.

        Raises Diverged when one is not finite: before any checkpoint that has seen the step.
        """
        loss, *of_pairs = taken.figures.read()
        self.pace.done(taken.tokens, taken.operations)
        self._finite("loss", loss, taken.state.step, taken.rate)
        if taken.norm is not None:
            self._finite("gradient norm", taken.norm.read()[0], taken.state.step, taken.rate)
        margin, accuracy = of_pairs or (None, None)
        return replace(taken.state, loss=loss, margin=margin, accuracy=accuracy)

    def _tell(self, taken: Taken, *, measured: bool) -> None:
        if self.report:
            norm = math.nan if taken.norm is None else taken.norm.read()[0]
            saved = self.saved_step is not None
            self.report.step(taken.state, taken.rate, norm, self.pace, measured=measured, has_checkpoint=saved)

    @property
    def _owns_clipping(self) -> bool:
        return engines.owns_clipping(self.resolved.precision, self.resolved.zero_stage)

    def _clipped(self) -> torch.Tensor:
        """Returns the norm that the gradients had, on the device."""
        most = self.stage.optimizer.max_grad_norm
        parameters = [p for p in self.engine.module.parameters() if p.grad is not None]
        return torch.nn.utils.clip_grad_norm_(parameters, most if most > 0 else math.inf)

    def _norm_of_engine(self) -> torch.Tensor | None:
        """Returns the norm of the gradients of the step that was just taken; None of an fp16 step that was left out.

        DeepSpeed leaves out every step whose gradients are not finite, on all ranks alike and without a word. In fp16
        that is how the loss scale is found. Elsewhere nothing changes by the next step: all would be left out, and the
        stage would end as if it had learned.
        """
        if self.engine.was_step_applied():
            norm = self.engine.get_global_grad_norm()
            return torch.as_tensor(0.0 if norm is None else norm)
        return None if self.resolved.precision == "FP16" else torch.tensor(math.nan)

    def _finite(self, what: str, value: float, step: int, rate: float) -> None:
        if math.isfinite(value):
            return
        # Every rank has the same number, and what is on its way to the disk is of a step before.
        with contextlib.suppress(NoSpace):
            self._complete(TrainState())
        raise Diverged(
            f"the {what} of step {step} is {value}, at a learning rate of {rate:.3g}. The last checkpoint is from "
            f"before it. Lower optimizer.learningRate, raise warmupRatio, or set maxGradNorm"
        )

    def _ahead(self, pool: ThreadPoolExecutor, step: int) -> Future[Window]:
        """Makes the window of a step while the one before it is computed."""
        return pool.submit(self.windows.of_step, step)

    def _validation_due(self, step: int) -> bool:
        assert self.stage.data.validation is not None
        return step % self.stage.data.validation.every_steps == 0 or step == self._steps

    def _validate(self, state: TrainState) -> TrainState:
        assert self.validation is not None
        with self.pace.on("validation"):
            loss, *of_pairs = self.validation.figures(self.engine, self._sum)
        self._finite("validation loss", loss, state.step, self.stage.optimizer.learning_rate)
        # A checkpoint of a version before has no lowest loss of its own.
        lowest = state.lowest_loss if state.lowest_loss is not None else state.best_loss
        lower = lowest is None or loss < lowest
        state = replace(
            state,
            validation_loss=loss,
            validation_accuracy=of_pairs[1] if of_pairs else None,
            lowest_loss=loss if lower else lowest,
            worse_in_a_row=0 if lower else state.worse_in_a_row + 1,
        )
        if state.is_better:
            return replace(state, best_loss=loss, best_accuracy=state.validation_accuracy, best_step=state.step)
        return state

    def _stops_early(self, state: TrainState) -> bool:
        early = self.stage.early_stop
        return early is not None and state.worse_in_a_row >= early.patience

    def _is_best(self, state: TrainState) -> bool:
        return self.stage.select == "Best" and state.best_step == state.step

    def _checkpoint_due(self, state: TrainState) -> bool:
        return (self.every_steps is not None and state.step % self.every_steps == 0) or state.step == self._steps

    def _save(self, state: TrainState) -> TrainState:
        """Begins a checkpoint; the one before is completed first. Returns the state, as `_complete` does."""
        state = self._complete(state)
        self.saved_at = self.clock()
        # The best one is kept only for the sake of `select`.
        kept = state if self.stage.select == "Best" else replace(state, best_step=None)
        try:
            with self.pace.on("checkpoint"):
                self.checkpoints.begin(self.engine, kept)
        except CheckpointFailed as error:
            return self._without(error, state)
        return state

    def _complete(self, state: TrainState) -> TrainState:
        """Waits until the checkpoint that was begun is whole, if one was.

        Returns the state; where that one was to be the best and could not be written, the best is again what it was.
        """
        if not self.checkpoints.writing:
            return state
        try:
            with self.pace.on("checkpoint"):
                saved = self.checkpoints.finish()
        except CheckpointFailed as error:
            return self._without(error, state)
        if self.saved_step is not None and self.report:
            self.report.reporter.warn("checkpoint", None)
        self.saved_step = saved.step
        self.saved_best = (saved.best_step, saved.best_loss, saved.best_accuracy)
        return state

    def _without(self, error: CheckpointFailed, state: TrainState) -> TrainState:
        """Goes on after a checkpoint that could not be written, with a warning. Raises NoSpace where none ever was."""
        if self.saved_step is None:
            raise NoSpace(f"{error}. No checkpoint could be written: free space there and start again") from None
        lost = self.stage.select == "Best" and state.best_step == error.step
        if self.report:
            self.report.reporter.warn(
                "checkpoint",
                f"step {error.step}: the checkpoint could not be written ({error}). The last complete one "
                f"is of step {self.saved_step}; the next is tried {self._next_time}. Free space there"
                + (self._lost_best() if lost and state.step < self._steps else ""),
            )
        step, loss, accuracy = self.saved_best
        return replace(state, best_step=step, best_loss=loss, best_accuracy=accuracy) if lost else state

    @property
    def _next_time(self) -> str:
        return f"{self.every_steps} steps on" if self.every_steps is not None else f"{self.every_seconds:g} s later"

    def _lost_best(self) -> str:
        step, loss, _ = self.saved_best
        kept = "" if step is None or loss is None else f": the best that is kept is of step {step} ({loss:.4f})"
        return f". It was the best so far, and select: Best cannot end with it{kept}"

    def _interrupt(self, state: TrainState) -> None:
        """All ranks are at the same step here, because they added up the flag."""
        state = self._complete(state)
        if state.step > (self.saved_step or 0):
            if self.report:
                self.report.reporter.log(f"stopping at step {state.step}: writing a checkpoint")
            self._complete(self._save(state))
        raise Interrupted(f"stopped at step {state.step} of {self._steps}; it goes on from step {self.saved_step or 0}")

    @property
    def _steps(self) -> int:
        return self.windows.extent.steps

    def _sum(self, values: list[float]) -> list[float]:
        with self.pace.on("communication"):
            return process_group.summed(values, self.ranks)


def _with_figures(state: TrainState, told: TrainState) -> TrainState:
    """Returns a state with the figures of the step that led to it."""
    return replace(state, loss=told.loss, margin=told.margin, accuracy=told.accuracy)


def _advanced(state: TrainState, window: Window, tokens: int, seconds: float) -> TrainState:
    return replace(
        state,
        step=state.step + 1,
        rows=window.rows,
        epoch=window.epoch,
        tokens=state.tokens + tokens,
        seconds=seconds,
    )
