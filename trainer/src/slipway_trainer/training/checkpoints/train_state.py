"""Where a training is: all that the loop itself knows between two steps."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from slipway_core.resources.status import Progress


@dataclass(frozen=True)
class TrainState:
    """Where the loop is. Together with the files of the ranks it is all that a resumed stage needs."""

    step: int = 0
    """Optimizer steps done; the rows they took follow from it."""
    rows: int = 0
    """Rows of the stream done: where the next step starts."""
    epoch: float = 0.0
    tokens: int = 0
    """Tokens of the documents that were trained on."""
    seconds: float = 0.0
    """Of training, validation and checkpoints, over all attempts."""
    loss: float | None = None
    validation_loss: float | None = None
    margin: float | None = None
    """Of preferences, as are those that follow: by how much the chosen answer's reward was above the other's."""
    accuracy: float | None = None
    """Share of pairs of which the chosen answer had the higher reward."""
    validation_accuracy: float | None = None
    best_accuracy: float | None = None
    """Validation accuracy of `best_step`."""
    best_step: int | None = None
    """Of the lowest validation loss, or the highest validation accuracy, whose checkpoint is there, where `select` asks
    for it."""
    best_loss: float | None = None
    """Validation loss of `best_step`."""
    lowest_loss: float | None = None
    """The lowest that was measured; below `best_loss` where its checkpoint could not be written."""
    worse_in_a_row: int = 0
    """Measurements since the lowest validation loss."""
    world: int = 1
    zero_stage: int = 0

    @property
    def is_better(self) -> bool:
        """Whether what was measured last is better than the best: its loss, or its accuracy and then its loss."""
        if self.validation_loss is None or self.best_loss is None:
            return self.validation_loss is not None
        return (-(self.validation_accuracy or 0.0), self.validation_loss) < (
            -(self.best_accuracy or 0.0),
            self.best_loss,
        )

    def without_best(self) -> TrainState:
        return replace(self, best_step=None, best_loss=None, best_accuracy=None)

    @classmethod
    def load(cls, path: Path) -> TrainState:
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def progress(self, total: int) -> Progress:
        """Returns the same as whoever looks at the stage sees it.

        Args:
            total: steps of the stage.
        """
        return Progress(
            step=self.step,
            total=total,
            epoch=self.epoch,
            tokens=self.tokens,
            loss=self.loss,
            validation_loss=self.validation_loss,
            margin=self.margin,
            accuracy=self.accuracy,
            validation_accuracy=self.validation_accuracy,
        )
