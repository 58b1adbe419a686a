"""What a run needs of this machine beside its files, and this machine has not: it would be found out when the run is
under way."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping

from slipway.local.state import State
from slipway_core.protocol.variables import JUDGE_KEY_VARIABLE
from slipway_core.resources.status import Phase, StepState
from slipway_core.resources.training_run import TrainingRun


def packages(run: TrainingRun) -> Iterator[str]:
    """Yields a sentence for each package that is not installed. The trainer runs by this very interpreter."""
    if run.spec.evaluation.tasks and importlib.util.find_spec("lm_eval") is None:
        yield (
            "spec.evaluation.tasks: needs lm-eval, which is not installed on this machine: "
            "pip install 'slipway-trainer[tasks]', or leave tasks out"
        )


def keys(run: TrainingRun, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yields a sentence for each key that the environment has not."""
    judge = run.spec.evaluation.judge
    if judge is not None and judge.credentials is not None and not environment.get(JUDGE_KEY_VARIABLE, "").strip():
        yield (
            f"spec.evaluation.judge.credentials: {JUDGE_KEY_VARIABLE} is not set. Set it to the key of {judge.url}: on "
            "one machine the environment has it, and the judge would not answer once the model is trained"
        )


def of_what_is_left(run: TrainingRun, state: State) -> list[str]:
    """Returns what the steps of a run lack that have not run yet; nothing of a run that is over."""
    folder = state.run(run.name)
    if folder.exists():
        status = folder.status()
        evaluated = status.step("evaluate")
        over = status.phase.finished and status.phase is not Phase.FAILED
        if over or (evaluated is not None and evaluated.state is StepState.SUCCEEDED):
            return []
    return [*packages(run), *keys(run)]
