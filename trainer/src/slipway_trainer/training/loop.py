"""The training loop: one for every objective, model, precision and number of processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from slipway_trainer.training.process_group import Ranks
from slipway_trainer.training.resolved import Resolved
from slipway_trainer.training.step_report import Pace, StepReport
from slipway_trainer.training.validation import ValidationSet


@dataclass
class Training:
    """Everything that the loop works on."""

    stage: Stage
    engine: Any
    windows: Windows
    validation: ValidationSet | None
    checkpoints: Checkpoints
    every_steps: int
    resolved: Resolved
    ranks: Ranks
    stop: StopFlag
    report: StepReport | None = None
    """Rank 0 alone."""
    clock: Callable[[], float] = time.monotonic
    saved_step: int | None = None
    """Of the newest complete checkpoint."""
    saved_best: tuple[int | None, float | None] = (None, None)
    """Step and validation loss of the best one that is complete."""

    def train(self, state: TrainState) -> TrainState:
        """Takes the steps from `state` to the end of the stage, or to where early stopping ends it.

        Raises Interrupted after a checkpoint when a signal asked for it, Diverged when a number is not finite, NoSpace
        when the first checkpoint cannot be written, Superseded when a newer attempt has the stage.
        """
        self.engine.train()
        pace = Pace()
        started, before = self.clock(), state.seconds
        with ThreadPoolExecutor(1, "collate") as pool:
            ahead = self._ahead(pool, state.step)
            while state.step < self._steps and not self._stops_early(state):
                step_started = self.clock()
                window = ahead.result()
                ahead = self._ahead(pool, state.step + 1)
                stop, targets, tokens = self._sum([float(self.stop.requested), window.targets, window.tokens])
                if stop:
                    self._interrupt(state)
                rate = schedule.learning_rate(state.step, self._steps, self.stage.optimizer)
                loss, norm = self._step(window, targets, rate, state.step + 1)

                state = _advanced(state, window, loss, int(tokens))
                pace.add(int(tokens), self.clock() - step_started)
                due = self.validation is not None and self._validation_due(state.step)
                if due:
                    state = self._validate(state)
                state = replace(state, seconds=before + self.clock() - started)
                if self.report:
                    saved = self.saved_step is not None
                    self.report.step(state, rate, norm, pace, measured=due, has_checkpoint=saved)
                if self._checkpoint_due(state):
                    state = self._save(state)
        return state

    def _step(self, window: Window, targets: float, rate: float, number: int) -> tuple[float, float]:
        """Takes one optimizer step. Returns the mean loss of a target token over all ranks, and the gradient's norm.

        The loss of the step is the sum over all micro batches of all ranks, divided once by all their targets.
        DeepSpeed averages gradients over ranks, hence the factor.
        """
        scale = self.ranks.world / max(1.0, targets)
        nats = torch.zeros((), dtype=torch.float64)
        last = len(window.batches) - 1
        for index, batch in enumerate(window.batches):
            self.engine.set_gradient_accumulation_boundary(index == last)
            batch = {name: tensor.to(self.ranks.device, non_blocking=True) for name, tensor in batch.items()}
            summed = self.engine(**batch)
            self.engine.backward(summed * scale, scale_wrt_gas=False)
            nats += summed.detach().double().cpu()
        loss = self._sum([float(nats)])[0] / max(1.0, targets)
        # Looked at before the weights are touched.
        self._finite("loss", loss, number, rate)
        norm = self._clipped() if self._owns_clipping else math.nan
        if self._owns_clipping:
            self._finite("gradient norm", norm, number, rate)
        optimizer.set_learning_rate(self.engine.optimizer.param_groups, rate)
        self.engine.step()
        if not self._owns_clipping:
            norm = float(self.engine.get_global_grad_norm() or 0.0)
            # fp16: a step that overflowed was left out, and the loss scale halved.
            if self.engine.was_step_applied():
                self._finite("gradient norm", norm, number, rate)
        return loss, norm

    @property
    def _owns_clipping(self) -> bool:
        return engines.owns_clipping(self.resolved.precision, self.resolved.zero_stage)

    def _clipped(self) -> float:
        most = self.stage.optimizer.max_grad_norm
        parameters = [p for p in self.engine.module.parameters() if p.grad is not None]
        return float(torch.nn.utils.clip_grad_norm_(parameters, most if most > 0 else math.inf))

    def _finite(self, what: str, value: float, step: int, rate: float) -> None:
        if not math.isfinite(value):
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
        loss = self.validation.loss(self.engine, self.ranks.device, self._sum)
        self._finite("validation loss", loss, state.step, self.stage.optimizer.learning_rate)
        # A checkpoint of a version before has no lowest loss of its own.
        lowest = state.lowest_loss if state.lowest_loss is not None else state.best_loss
        lower = lowest is None or loss < lowest
        state = replace(
            state,
            validation_loss=loss,
            lowest_loss=loss if lower else lowest,
            worse_in_a_row=0 if lower else state.worse_in_a_row + 1,
        )
        if state.best_loss is None or loss < state.best_loss:
            return replace(state, best_loss=loss, best_step=state.step)
        return state

    def _stops_early(self, state: TrainState) -> bool:
        early = self.stage.early_stop
        return early is not None and state.worse_in_a_row >= early.patience

    def _checkpoint_due(self, state: TrainState) -> bool:
        best = self.stage.select == "Best" and state.best_step == state.step
        return best or state.step % self.every_steps == 0 or state.step == self._steps

    def _save(self, state: TrainState) -> TrainState:
        """Writes a checkpoint. When the disk is full and an older one exists, training goes on with a warning.

        Returns the state; where the best one could not be written, the best is again the one that was.
        """
        # The best one is kept only for the sake of `select`.
        kept = state if self.stage.select == "Best" else replace(state, best_step=None)
        try:
            self.checkpoints.save(self.engine, kept)
        except CheckpointFailed as error:
            if self.saved_step is None:
                raise NoSpace(f"{error}. No checkpoint could be written: free space there and start again") from None
            lost = self.stage.select == "Best" and state.best_step == state.step
            if self.report:
                self.report.reporter.warn(
                    "checkpoint",
                    f"step {state.step}: the checkpoint could not be written ({error}). The last complete one "
                    f"is of step {self.saved_step}; the next is tried {self.every_steps} steps on. Free space there"
                    + (self._lost_best() if lost and state.step < self._steps else ""),
                )
            best_step, best_loss = self.saved_best
            return replace(state, best_step=best_step, best_loss=best_loss) if lost else state
        if self.saved_step is not None and self.report:
            self.report.reporter.warn("checkpoint", None)
        self.saved_step = state.step
        self.saved_best = (kept.best_step, kept.best_loss)
        return state

    def _lost_best(self) -> str:
        step, loss = self.saved_best
        kept = "" if step is None or loss is None else f": the best that is kept is of step {step} ({loss:.4f})"
        return f". It was the best so far, and select: Best cannot end with it{kept}"

    def _interrupt(self, state: TrainState) -> None:
        """All ranks are at the same step here, because they added up the flag."""
        if state.step > (self.saved_step or 0):
            if self.report:
                self.report.reporter.log(f"stopping at step {state.step}: writing a checkpoint")
            self._save(state)
        raise Interrupted(f"stopped at step {state.step} of {self._steps}; it goes on from step {self.saved_step or 0}")

    @property
    def _steps(self) -> int:
        return self.windows.extent.steps

    def _sum(self, values: list[float]) -> list[float]:
        return process_group.summed(values, self.ranks)


def _advanced(state: TrainState, window: Window, loss: float, tokens: int) -> TrainState:
    return replace(
        state,
        step=state.step + 1,
        rows=window.rows,
        epoch=window.epoch,
        tokens=state.tokens + tokens,
        loss=loss,
    )
