"""The last words about a run, wherever it was: the verdict gate by gate, why it ended, and what to do next."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from slipway.screen import printing, view
from slipway_core.lifecycle import remedy
from slipway_core.lifecycle.draft import PUBLISHED
from slipway_core.lifecycle.required_gates import NOT_LET_IN
from slipway_core.resources.conditions import find
from slipway_core.resources.status import EvaluationStatus, Phase, RunStatus, Verdict

if TYPE_CHECKING:
    from slipway.start_wait import StartWait

Command = Callable[..., str]
"""Returns the command of some words as it is typed to reach this target; see Target.command."""


def conclude(
    console: Console,
    name: str,
    status: RunStatus,
    command: Command,
    *,
    say_where: Callable[[], None],
    say_live: Callable[[], None],
) -> None:
    """Says how a run ended.

    Args:
        say_where: says where the model serves.
        say_live: says what still serves though this model does not.
    """
    evaluation = status.evaluation
    if evaluation is not None and evaluation.metrics:
        console.print()
        console.print(view.verdict_table(evaluation.metrics))
    if note := evaluation and view.baseline_note(evaluation):
        console.print(note)
    if evaluation is not None and evaluation.recall_overlap:
        console.print(
            f"{evaluation.recall_overlap} prompts ask for what the training data holds, as recall: true says",
            style="dim",
            highlight=False,
        )
    console.print()

    say = partial(printing.say, console)
    _say_published(say, status)
    live = find(status.conditions, "Live")
    if status.phase is Phase.SERVING and status.endpoint is not None:
        if live is not None and live.status == "False":
            # Somebody stopped its endpoint since: the run itself is over, and has done what it was to do.
            say(f"The model was live and does not answer now: {live.message}")
        else:
            say_where()
        return

    progressing = find(status.conditions, "Progressing")
    message = progressing.message if progressing else ""
    if status.phase is Phase.COMPLETED:
        say(f"Completed: {message}")
        if status.artifact is not None:
            say(f"The model is in {status.artifact.uri.removeprefix('file://')}")
        return
    if status.phase is Phase.HELD and evaluation is not None:
        say(f"Held: could not be judged: {evaluation.reason}")
        again = f"`{command('reevaluate', name)}` judges the model again; other gates or other data need another run"
        fix = remedy.of_held(evaluation, name, again)
        say(f"{fix[0].upper()}{fix[1:]}.")
    elif status.phase is Phase.REJECTED and evaluation is not None and (failed := _failed(evaluation)):
        # Which ones, and by how much, is in the table.
        say(f"Rejected: {failed} of {len(evaluation.metrics)} gates failed")
    else:
        say(f"{status.phase.value}: {message}" if message else status.phase.value)
    if status.phase is Phase.REJECTED and (live is None or live.reason != NOT_LET_IN):
        say(
            "A better model, or gates that ask for less, need a run of another metadata.name; "
            f"`{command('doctor', name)}` says what to change."
        )
    if status.phase is Phase.FAILED:
        say(f"See `{command('logs', name)}` and `{command('doctor', name)}`.")
    say_live()


def say_not_answering(console: Console, run: str, why: str, wait: StartWait, command: Command) -> None:
    """Says that a model that passed is not waited for any longer, and why."""
    say = partial(printing.say, console)
    console.print()
    how = "passed and does not answer"
    if wait.answers:
        how = "answers, and not yet with the settings that its endpoint has now"
    say(f"The model {how}: {why}")
    say(f"See `{command('logs', run, '--stage', 'serve')}` and `{command('doctor', run)}`.")
    # What stops the endpoint stops the version that answers there too, and nothing stops a candidate alone.
    until = "" if wait.serves else f" until `{command('stop', f'endpoint/{wait.endpoint}')}`"
    say(f"Endpoint {wait.endpoint} goes on trying{until}; the same command waits again.")


def _failed(evaluation: EvaluationStatus) -> int:
    return sum(metric.verdict is Verdict.FAIL for metric in evaluation.metrics)


def _say_published(say: Callable[[str], None], status: RunStatus) -> None:
    """Says where the run is seen, and what others could not be told of it."""
    for name, place in view.places(status).items():
        say(f"{name}: {place}")
    published = find(status.conditions, PUBLISHED)
    if published is not None and published.status == "False" and published.reason != "NotPassed":
        say(f"The verdict is not told everywhere: {published.message}")
