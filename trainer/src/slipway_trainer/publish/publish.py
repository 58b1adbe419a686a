"""Tells the trackers of a run how it ended, and pushes its model where that passed.

Each of them is tried, whatever becomes of the others. The verdict is what the run's record says: nothing that lies in
the workspace can have a model pushed that did not pass.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from slipway_core.plan import Plan
from slipway_core.protocol import variables
from slipway_core.protocol.judged import Judged
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.status import Verdict
from slipway_trainer.publish import hub_push
from slipway_trainer.publish.conclusions import conclusion
from slipway_trainer.publish.telling import tell
from slipway_trainer.step.errors import BadConfig, InputError, PublishFailed, PublishRefused, StepFailure
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Reporter
from slipway_trainer.tracking import choose
from slipway_trainer.tracking.tracker import TrackedRun, TrackerAway, TrackerRefuses

TRACKER_SECONDS = 900.0
"""How long one tracker is waited for: its library may hang."""


@dataclass
class _Outcome:
    links: dict[str, str] = field(default_factory=dict[str, str])
    failures: list[StepFailure] = field(default_factory=list[StepFailure])


def run(plan: Plan, workspace: Workspace, *, attempt: int, seconds: float = TRACKER_SECONDS) -> StepResult:
    """Tells and pushes what is asked for.

    Raises PublishFailed when something may go better at another time, PublishRefused when it will not, BadConfig when
    the executor does not say what the verdict is.
    """
    judged = _judged(os.environ)
    choose.trim_keys()
    reporter = Reporter("publish")
    reporter.serve()
    outcome = _Outcome()
    try:
        Fence(workspace.fence("publish"), attempt).check()
        _tell_trackers(plan, workspace, judged, reporter, outcome, seconds)
        push = plan.export.push
        if push is not None and judged.verdict is Verdict.PASS:
            reporter.say(f"pushing the model to {push.uri}")
            _try("hub", lambda: hub_push.push(push, workspace.artifact, judged), outcome)
        elif push is not None:
            reporter.say(f"nothing is pushed: the verdict is {judged.verdict}")
        reporter.progress = reporter.progress.model_copy(update={"links": outcome.links or None, "message": None})
        for name, link in outcome.links.items():
            reporter.log(f"{name}: {link}")
        if outcome.failures:
            raise _together(outcome.failures, reporter)
        return StepResult(step="publish", attempt=attempt, progress=reporter.progress)
    finally:
        reporter.close()


def _judged(environment: Mapping[str, str]) -> Judged:
    try:
        return Judged.parse(environment.get(variables.JUDGED_VARIABLE, ""))
    except ValidationError as error:
        raise BadConfig(
            f"{variables.JUDGED_VARIABLE}: the executor sets it to the verdict of the run: {error.errors()[0]['msg']}"
        ) from None


def _tell_trackers(
    plan: Plan, workspace: Workspace, judged: Judged, reporter: Reporter, outcome: _Outcome, seconds: float
) -> None:
    tracking = choose.asked()
    if tracking is None:
        return
    told, tracked = conclusion(plan, workspace, judged), TrackedRun.of(plan, workspace.root)
    for choice in choose.choices(tracking, tracked):
        reporter.say(f"telling {choice.name}")

        def work(choice: choose.Choice = choice) -> str:
            return tell(choice, plan, workspace, told, reporter.log)

        _try(choice.name, lambda work=work, name=choice.name: _within(seconds, name, work), outcome)


def _within(seconds: float, name: str, work: Callable[[], str]) -> str:
    """Returns what a call returns; one that hangs is left behind."""
    found: list[str | BaseException] = []

    def call() -> None:
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=call, name=name, daemon=True)
    thread.start()
    thread.join(seconds)
    match found:
        case [str() as link]:
            return link
        case [BaseException() as error]:
            raise error
        case _:
            raise TrackerAway(f"it has not answered within {seconds:g} s")


def _try(name: str, work: Callable[[], str], outcome: _Outcome) -> None:
    try:
        outcome.links[name] = work()
    except StepFailure as failure:
        outcome.failures.append(failure)
    except TrackerRefuses as error:
        outcome.failures.append(PublishRefused(f"tracking.{name}: {error}"))
    except (TrackerAway, OSError) as error:
        outcome.failures.append(PublishFailed(f"tracking.{name}: {error}"))
    except Exception as error:
        # A library's own fault is no reason to leave the others untold.
        outcome.failures.append(PublishFailed(f"tracking.{name}: {type(error).__name__}: {error}"))


def _together(failures: list[StepFailure], reporter: Reporter) -> StepFailure:
    """Returns one failure for all of them: one that is worth another attempt where one of them is."""
    final = all(isinstance(failure, InputError) for failure in failures)
    words = choose.without_secrets("; ".join(str(failure) for failure in failures))
    found = PublishRefused(words) if final else PublishFailed(words)
    found.progress = reporter.progress
    return found
