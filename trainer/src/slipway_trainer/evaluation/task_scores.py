"""What a model did in the tasks of a plan, document by document."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slipway_trainer.evaluation.estimates.observed import Observed
from slipway_trainer.harness import process
from slipway_trainer.harness.description import Described, Scored, Wanted
from slipway_trainer.harness.process import Harness, Model, Refused

SAMPLES = 20
"""Documents of each task in the report."""


@dataclass(frozen=True)
class PreparedTask:
    """A task as prepare left it."""

    wanted: Wanted
    described: Described
    copies: dict[str, Path]
    """The rows of each split."""
    limit: int | None
    left_out: tuple[int, ...] = ()
    """Documents that stand in the training data."""
    texts: tuple[str, ...] = ()
    """Of each document that is judged, what it asks and the right answer."""

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def documents(self) -> int:
        """How many are judged."""
        return len(self.texts)


@dataclass(frozen=True)
class TaskScores:
    """What a model did in one task."""

    task: PreparedTask
    scored: Scored | None
    trouble: str | None = None
    """Why it was not measured."""
    seconds: float = 0.0

    @property
    def observed(self) -> dict[str, Observed]:
        """What each metric that is a mean of scores between 0 and 1 is made of, document by document."""
        if self.scored is None:
            return {}
        found = {name: np.array(own, np.float64) for name, own in self.scored.scores.items()}
        ones = np.ones(self.scored.documents)
        return {name: Observed("Share", own, ones) for name, own in found.items() if own.size and _is_share(own)}

    @property
    def figures(self) -> tuple[dict[str, float], dict[str, str]]:
        """Returns the metrics that are finite, and for each of the others the reason why there is none."""
        every = self.task.described.metrics
        if self.scored is None:
            return {}, dict.fromkeys(every, self.trouble or "the task was not measured")
        finite = {name: value for name, value in self.scored.metrics.items() if np.isfinite(value)}
        missing = {name: "is not a finite number" for name in self.scored.metrics if name not in finite}
        missing |= {name: "lm-eval made no such figure" for name in every if name not in self.scored.metrics}
        return finite, missing

    def to_document(self, bounds: dict[str, Any]) -> dict[str, Any]:
        """Returns what the report says of it."""
        task = self.task
        return {
            "task": task.name,
            "harness": f"lm-eval {task.described.version}",
            "version": task.described.revision,
            "fewshot": task.described.fewshot,
            "limit": task.limit,
            "documents": self.scored.documents if self.scored else 0,
            "left_out": len(task.left_out),
            "metrics": bounds,
            "missing": self.figures[1],
            "samples": [asdict(one) for one in self.scored.samples] if self.scored else [],
            "seconds": round(self.seconds, 3),
        }


def _is_share(scores: np.ndarray) -> bool:
    return bool(np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1)


def measure(tasks: Sequence[PreparedTask], model: Model, say: Callable[[str], None]) -> dict[str, TaskScores]:
    """Returns what a model does in each task. What cannot be measured says why.

    Args:
        say: told which task begins.
    """
    if not tasks:
        return {}
    with process.opened() as harness:
        return {task.name: _measured(harness, task, model, say) for task in tasks}


def _measured(harness: Harness, task: PreparedTask, model: Model, say: Callable[[str], None]) -> TaskScores:
    say(f"task {task.name}, {task.documents} documents")
    started = time.monotonic()
    if not task.documents:
        return TaskScores(task, None, "all of its documents stand in the training data and are left out")
    try:
        found = harness.describe(task.wanted)
        if found.version != task.described.version:
            raise Refused(
                f"lm-eval {found.version} is installed, and prepare had {task.described.version}. Start the run again"
            )
        scored = harness.judge(
            task.wanted, task.copies, model, limit=task.limit, left_out=task.left_out, samples=SAMPLES
        )
    except Refused as error:
        return TaskScores(task, None, str(error))
    return TaskScores(task, scored, seconds=time.monotonic() - started)
