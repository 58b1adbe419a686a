"""Looking on while a run is at work, wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from slipway import exit_codes
from slipway.exit_codes import CliError
from slipway.screen import view
from slipway.screen.conclusion import conclude, say_not_answering
from slipway.screen.printing import console, say
from slipway.start_wait import StartWait, not_answering
from slipway.target import Target
from slipway_core.resources.conditions import find
from slipway_core.resources.events import Event
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import EndpointPhase, RunStatus, StepState, StepStatus
from slipway_core.resources.training_run import TrainingRun

if TYPE_CHECKING:
    from rich.console import Console

Show = Callable[[RunStatus, tuple[Event, ...]], None]


@dataclass(frozen=True)
class Seen:
    """A run as whoever looked on has seen it last."""

    run: TrainingRun
    gave_up: str | None = None
    """Why its model, which passed, is not waited for any longer; None where that did not happen."""
    wait: StartWait | None = None
    """How it was waited for; None of a run that serves nothing."""

    def exit_code(self, target: Target) -> int:
        return exit_codes.FAILED if self.gave_up is not None else target.exit_code(self.run)


def attend(target: Target, name: str | None, start_within: timedelta | None = None) -> int:
    """Shows a run until it rests, says how it ended, and returns its exit code.

    Args:
        start_within: how long its model is waited for once it passed; its endpoint's startTimeout when None.

    Raises CliError when it rests without being finished, because nobody is at work on it.
    """
    screen = console()
    with view.choose(screen) as shown:
        seen = look_on(target, name, shown, start_within)
    run, status = seen.run, seen.run.status or RunStatus()
    if seen.gave_up is not None and seen.wait is not None:
        say_not_answering(screen, run.name, seen.gave_up, seen.wait, target.command)
        _say_live(screen, target, run)
        return seen.exit_code(target)
    if not status.phase.rests:
        why = target.idle(run) or "it rests"
        raise CliError(f"run {run.name} is {status.phase.value} and {why}")
    print(f"run {run.name} is {status.phase.value}", flush=True)
    conclude(
        screen, run.name, status, target.command,
        say_where=lambda: _say_where(screen, target, status), say_live=lambda: _say_live(screen, target, run),
    )  # fmt: skip
    return seen.exit_code(target)


def look_on(target: Target, name: str | None, shown: Show, start_within: timedelta | None = None) -> Seen:
    """Shows a run until it rests, or its model is waited for in vain. Raises CliError when it is gone."""
    run: TrainingRun | None = None
    wait: StartWait | None = None
    before, unseen = RunStatus(), None
    for run in target.follow(name):
        serving = run.spec.serving
        if wait is None or serving is None or serving.endpoint != wait.endpoint:
            # Somebody may send the run to another endpoint meanwhile.
            wait = target.start_wait(run, start_within)
        status = run.status or RunStatus()
        heard = wait.look(status) if wait is not None else ()
        status = wait.told(status) if wait is not None else status
        events = (*(changes(before, status) if before.stages else ()), *heard)
        why = None if status.phase.finished else target.idle(run) if run.status is None else target.unattended(run)
        if why and why != unseen:
            events = (*events, Event("Warning", "Idle", why))
        shown(status, events)
        before, unseen = status, why
        if wait is not None and wait.over is not None:
            return Seen(run, wait.over, wait)
    if run is None:
        raise CliError(f"run {name} is gone from {target.title}")
    return Seen(run, not_answering(before), wait)


def changes(before: RunStatus, after: RunStatus) -> tuple[Event, ...]:
    """Returns the events of a run whose executor is elsewhere, from two statuses, as the lifecycle words them."""
    events = [event for step in after.stages if (event := _of_step(before.step(step.name), step)) is not None]
    was, rollout = (find(status.conditions, "Progressing") for status in (before, after))
    if rollout is not None and rollout.reason == "RollingOut" and (was is None or was.message != rollout.message):
        events.append(Event("Normal", "RollingOut", rollout.message))
    return tuple(events)


def _of_step(before: StepStatus | None, after: StepStatus) -> Event | None:
    if before is not None and (before.state, before.attempt) == (after.state, after.attempt):
        return None
    why = after.message or "it left no reason"
    match after.state:
        case StepState.SUCCEEDED:
            return Event("Normal", "StepSucceeded", f"{after.name} is done (attempt {after.attempt})")
        case StepState.WAITING:
            return Event("Warning", "StepFailed", f"{after.name} is tried again: {why}")
        case StepState.FAILED:
            return Event("Warning", "StepFailed", f"{after.name} failed: {why}")
        case _:
            return None


def _say_where(screen: Console, target: Target, status: RunStatus) -> None:
    assert status.endpoint is not None
    name, url = status.endpoint.name, status.endpoint.url
    address = f"   It answers at {url}/" if url else ""
    say(screen, f"Serving. Chat with it:  {target.command('chat', name)}{address}")
    endpoint = _endpoint(target, name)
    if endpoint is not None and (endpoint.spec.access.keys_file or endpoint.spec.access.keys_secret):
        screen.print("It asks for a key: export SLIPWAY_API_KEY=…, one of its keys, before you chat.", soft_wrap=True)


def _say_live(screen: Console, target: Target, run: TrainingRun) -> None:
    endpoint = _endpoint(target, run.spec.serving.endpoint) if run.spec.serving else None
    if endpoint is None or endpoint.status is None or endpoint.status.phase is EndpointPhase.STOPPED:
        return
    live, ready = endpoint.status.live, find(endpoint.status.conditions, "Ready")
    if live is not None and (ready is None or ready.status == "True"):
        say(screen, f"Endpoint {endpoint.metadata.name} still serves version {live.version} of run {live.run}.")


def _endpoint(target: Target, name: str) -> ModelEndpoint | None:
    try:
        found = target.find(f"endpoint/{name}")
    except CliError:
        return None  # The run has ended all the same.
    return found if isinstance(found, ModelEndpoint) else None
