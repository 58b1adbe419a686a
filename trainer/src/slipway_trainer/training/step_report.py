"""What a step is told to the outside: a row of metrics.jsonl, and the progress that everybody sees."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from slipway_core.resources.status import Progress
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Metrics, Reporter
from slipway_trainer.training.checkpoints.train_state import TrainState
from slipway_trainer.training.pace import Pace

FENCE_SECONDS = 1.0

Figure = TypeVar("Figure", float, float | None)


@dataclass
class StepReport:
    """Rank 0 alone has one."""

    reporter: Reporter
    metrics: Metrics
    fence: Fence
    total: int
    """Steps of the stage."""
    peak_memory: Callable[[], int | None] = lambda: None
    """Asked for the most bytes that this process has held."""
    clock: Callable[[], float] = time.monotonic
    _fence_looked: float = -math.inf

    def step(
        self, state: TrainState, rate: float, norm: float, pace: Pace, *, measured: bool, has_checkpoint: bool
    ) -> None:
        """Tells the step that led to this state.

        Args:
            rate: of learning.
            norm: of the gradient; NaN when it is not known.
            measured: whether the validation loss is of this step.
            has_checkpoint: whether a stage whose metrics cannot be written any more may go on all the same.

        Raises Superseded when a newer attempt has the stage.
        """
        self._look_at_fence()
        speed, memory, shares = pace.tokens_per_second, self.peak_memory(), pace.shares()
        self._write_metrics(
            {
                "step": state.step,
                "attempt": self.fence.attempt,
                "epoch": round(state.epoch, 6),
                "tokens": state.tokens,
                "loss": state.loss,
                "validation_loss": state.validation_loss if measured else None,
                **_of_pairs(state, measured=measured),
                "learning_rate": rate,
                "grad_norm": norm if math.isfinite(norm) else None,
                "tokens_per_second": speed,
                **({} if pace.utilisation is None else {"mfu": pace.utilisation}),
                "peak_memory_bytes": memory,
                **{f"{part}_share": share for part, share in shares.items()},
                "seconds": round(state.seconds, 3),
                "time": time.time(),
            },
            has_checkpoint=has_checkpoint,
        )
        progress = Progress(
            step=state.step,
            total=self.total,
            epoch=_readable(state.epoch),
            tokens=state.tokens,
            loss=_readable(state.loss),
            validation_loss=_readable(state.validation_loss),
            margin=_readable(state.margin),
            accuracy=_readable(state.accuracy),
            validation_accuracy=_readable(state.validation_accuracy),
            learning_rate=_readable(rate),
            tokens_per_second=_readable(speed),
            mfu=_readable(pace.utilisation),
            peak_memory_bytes=memory,
            time_shares={part: round(share, 4) for part, share in shares.items()} or None,
            eta_seconds=_readable(pace.seconds_for(self.total - state.step)),
        )
        self.reporter.step(progress, force=measured or state.step == self.total)

    def ended(self, pace: Pace) -> None:
        """Logs what the time of this process went into."""
        shares, memory, used = pace.shares_of_all(), self.peak_memory(), pace.utilisation
        said = [f"{share:.1%} {part}" for part, share in shares.items()]
        parts = [f"time: {', '.join(said)}"] if said else []
        parts += [f"peak memory {memory / 2**30:.2f} GiB"] if memory else []
        parts += [f"MFU {used:.1%}"] if used is not None else []
        if parts:
            self.reporter.log("; ".join(parts))

    def _write_metrics(self, row: dict[str, float | int | None], *, has_checkpoint: bool) -> None:
        try:
            self.metrics.write(row)
        except OSError as error:
            # What was not written is written with the next row.
            if not has_checkpoint:
                raise
            rows = f"metrics.jsonl lacks {self.metrics.unwritten} rows, which are written once there is room"
            # A log that says so at every step hides what else it says.
            self.reporter.warn("metrics", f"step {row['step']}: {error}: {rows}", again=False)
        else:
            self.reporter.warn("metrics", None)

    def _look_at_fence(self) -> None:
        # A file on a network volume, so not at every step of a small model.
        if self.clock() - self._fence_looked >= FENCE_SECONDS:
            self._fence_looked = self.clock()
            self.fence.check()


def _of_pairs(state: TrainState, *, measured: bool) -> dict[str, float | None]:
    """Returns what a stage of preferences has beside its loss; nothing of another."""
    if state.margin is None:
        return {}
    validation = {"validation_accuracy": state.validation_accuracy if measured else None}
    return {"margin": state.margin, "accuracy": state.accuracy, **validation}


def _readable(value: Figure) -> Figure:
    """Returns a figure as people and tables read it, with six digits; metrics.jsonl has all of them."""
    return value if value is None else float(f"{value:.6g}")  # type: ignore[return-value]
