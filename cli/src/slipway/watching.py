"""Looking on while a run is at work, wherever it is."""

from __future__ import annotations

from slipway import view
from slipway.exits import CliError
from slipway.place import Place
from slipway.printing import console
from slipway_core.status import RunStatus
from slipway_core.training_run import TrainingRun


def attend(place: Place, name: str | None) -> int:
    """Shows a run until it rests, says how it ended, and returns its exit code.

    Raises CliError when it rests without being finished, because nobody is at work on it.
    """
    run: TrainingRun | None = None
    with view.choose(console()) as shown:
        for run in place.follow(name):
            shown(run.status or RunStatus(), ())
    if run is None:
        raise CliError(f"run {name} is gone from {place.title}")
    phase = (run.status or RunStatus()).phase
    if not phase.finished:
        why = place.idle(run) or "it rests"
        raise CliError(f"run {run.name} is {phase.value} and {why}")
    print(f"run {run.name} is {phase.value}")
    return place.exit_code(run)
