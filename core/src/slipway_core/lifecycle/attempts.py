"""Attempts of a run's steps: counted as they end, created, repeated after a pause, or given up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from slipway_core.lifecycle import giving_way
from slipway_core.lifecycle.decision import CreateAttempt, Decision, DeleteAttempt
from slipway_core.lifecycle.draft import STEP_WARNED, Draft
from slipway_core.lifecycle.evaluation import baseline, judge, lacks_baseline, note_crashed_evaluation
from slipway_core.lifecycle.giving_way import GAVE_WAY, gives_way, yields
from slipway_core.lifecycle.observed import Attempt
from slipway_core.lifecycle.promotion import ENDPOINT_UNREADABLE
from slipway_core.protocol.commands import Inputs
from slipway_core.protocol.exit_codes import ExitClass
from slipway_core.protocol.judged import Judged
from slipway_core.protocol.step_result import StepResult
from slipway_core.resources import conditions
from slipway_core.resources.api import in_words
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.stage import FIXED_STEPS
from slipway_core.resources.status import (
    METRICS_LIMIT,
    ArtifactStatus,
    Phase,
    Progress,
    StepState,
    StepStatus,
    bounded_warnings,
    only_warnings,
)


def advance(draft: Draft, name: str) -> Phase | None:
    """Brings one step forward. Returns the phase while the run has to wait for it, None when it is behind us."""
    running = account(draft, name)
    record = draft.steps[name]
    if record.state is StepState.SUCCEEDED:
        return None
    if record.state is StepState.FAILED:
        return None if name == "evaluate" else _failed(draft, name)
    phase = _phase_of(name)
    if running is not None:
        if running.elsewhere == "Waiting":
            draft.condition("Progressing", "True", "Moved", move(draft, name, running))
            return Phase.PENDING
        if gives_way(draft, name, running):
            message = f"{name} gives its places back (attempt {running.number}): {draft.steps[name].message}"
            draft.condition("Progressing", "True", GAVE_WAY, message)
            return Phase.PENDING
        if draft.observed.queued is None and running.state == "Starting" and draft.observed.blockers:
            causes = ", ".join(blocker.type for blocker in draft.observed.blockers)
            draft.condition("Progressing", "True", "Waiting", f"{name} waits (attempt {running.number}): {causes}")
            return Phase.PENDING
        draft.condition("Progressing", "True", phase.value, _progress_message(draft, name, running))
        return phase if draft.observed.queued is None else Phase.QUEUED

    wait = backoff_left(draft, name)
    record = draft.steps[name]
    if wait > timedelta(0):
        draft.look_again = wait
        gave_way = record.yielded_attempt == record.attempt
        draft.condition(
            "Progressing",
            "True",
            GAVE_WAY if gave_way else "BackingOff",
            f"{name} is tried again in {wait.seconds} s: {record.message}",
        )
        return Phase.PENDING if gave_way else phase
    if name == "evaluate" and (why := lacks_baseline(draft)):
        message = f"the live version that the model is compared with is not known: {why}"
        draft.condition("Progressing", "True", ENDPOINT_UNREADABLE, message)
        return phase
    create(draft, name)
    draft.condition("Progressing", "True", phase.value, under_way(name, draft.steps[name].attempt))
    return phase


def move(draft: Draft, name: str, attempt: Attempt) -> str:
    """Has an attempt made anew that waits for a place where its run is not to run any more, and says so. That is no
    interruption."""
    draft.delete.append(DeleteAttempt(name, attempt.number, "compute was edited"))
    draft.update(name, suspended_attempt=attempt.number)
    return f"{name} is made anew (attempt {attempt.number}): compute was edited before it had a place"


def account(draft: Draft, name: str) -> Attempt | None:
    """Enters every attempt that ended since the last pass into the record. Returns the one that is still there."""
    record = draft.steps[name]
    if record.state in (StepState.SUCCEEDED, StepState.FAILED):
        return None
    attempts = sorted(draft.observed.attempts.get(name, ()), key=lambda attempt: attempt.number)
    news = [
        attempt
        for attempt in attempts
        if attempt.number > record.attempt or (attempt.number == record.attempt and record.state is StepState.RUNNING)
    ]
    for attempt in news:
        _adopt(draft, name, attempt)
        if attempt.state != "Ended":
            return attempt
        _enter(draft, name, attempt)
        if draft.steps[name].state in (StepState.SUCCEEDED, StepState.FAILED):
            return None
    if not news and record.state is StepState.RUNNING:
        draft.update(name, finished_at=timestamp(draft.now))
        _interrupted(draft, name, "it vanished", _position(record.progress))
    return None


def _adopt(draft: Draft, name: str, attempt: Attempt) -> None:
    record = draft.steps[name]
    known = record.progress if attempt.number == record.attempt else _of_next_attempt(record.progress)
    draft.steps[name] = record.model_copy(
        update={
            "state": StepState.RUNNING,
            "attempt": attempt.number,
            "job": attempt.job,
            **_layout(record, attempt),
            "started_at": record.started_at or timestamp(attempt.started_at),
            "progress": attempt.progress or known,
            "finished_at": None,
        }
    )


def _layout(record: StepStatus, attempt: Attempt) -> dict[str, int | None]:
    """Returns over what an attempt is spread: as it was made, whatever the resource says by now."""
    known = record if attempt.number == record.attempt and attempt.nodes is None else attempt
    return {"nodes": known.nodes, "processes_per_node": known.processes_per_node}


def _enter(draft: Draft, name: str, attempt: Attempt) -> None:
    """Enters one ended attempt by the class of its exit."""
    reached = _reached(attempt, draft.steps[name].progress)
    if reached is not None:
        draft.update(name, progress=reached)
    # A node's clock that is ahead must not prolong the pause before the next attempt.
    draft.update(name, finished_at=timestamp(min(attempt.finished_at or draft.now, draft.now)))
    message = _why(attempt)
    match attempt.exit_class or ExitClass.FAILED:
        case ExitClass.DONE:
            _completed(draft, name, attempt)
        case ExitClass.BAD_INPUT:
            draft.update(name, state=StepState.FAILED, message=message)
            draft.event("Warning", "BadInput", f"{name}: {message}")
            _tell_warnings(draft, name)
            note_crashed_evaluation(draft, name, attempt)
        case ExitClass.INTERRUPTED | ExitClass.LOST_PEERS:
            lost = attempt.exit_class is ExitClass.LOST_PEERS and draft.steps[name].yielded_attempt != attempt.number
            if lost and attempt.half_placed is not None:
                # Who waits for peers that have no place does so for a time only, and ends by itself.
                yields(draft, name, attempt, attempt.half_placed)
                draft.event("Warning", GAVE_WAY, draft.steps[name].message or "")
            _interrupted(draft, name, message, _position(reached))
            note_crashed_evaluation(draft, name, attempt)
        case ExitClass.FAILED:
            _count_failure(draft, name, message)
            note_crashed_evaluation(draft, name, attempt)


def _reached(attempt: Attempt, known: Progress | None) -> Progress | None:
    """Returns how far an attempt came and what it found. A process that was killed leaves no word, and an executor that
    was killed with it has heard none.

    Args:
        known: what the record has; its warnings are this attempt's (`_of_next_attempt`).
    """
    heard = attempt.progress or known
    reached = (attempt.result.progress if attempt.result else None) or heard
    found = _found(attempt.result, (heard.warnings if heard is not None else None) or [])
    return (reached or Progress()).model_copy(update={"warnings": found or None}) if reached or found else None


def _found(result: StepResult | None, heard: list[str]) -> list[str]:
    """Returns what an attempt warns of: by its result, and where that has no room for all of it whole by what was heard
    while it ran. Both are in the order in which it was found."""
    if result is None or result.warnings is None:
        return heard
    if result.warnings_found is None:
        return result.warnings
    whole, cut = only_warnings(heard), only_warnings(result.warnings)
    lines = [*whole, *cut[len(whole) :]]
    return bounded_warnings(lines, more=len(lines) < result.warnings_found)


def _of_next_attempt(progress: Progress | None) -> Progress | None:
    """Returns how far a step has come, as the next attempt finds it: what that warns of it says itself."""
    return progress and progress.model_copy(update={"warning": None, "warnings": None})


def _completed(draft: Draft, name: str, attempt: Attempt) -> None:
    if name == "export":
        artifact = attempt.result.artifact if attempt.result else None
        if artifact is None:
            _count_failure(draft, name, attempt.result_error or "the export named no artifact")
            return
        draft.artifact = ArtifactStatus(uri=artifact.uri, digest=artifact.digest)
    if name == "prepare" and attempt.result is not None:
        draft.held_out_digest = attempt.result.held_out_digest
        draft.held_out_sketch = attempt.result.held_out_sketch
        draft.gate_data = list(attempt.result.gate_data)
        draft.training_data = attempt.result.training_data
    if name == "evaluate":
        judge(draft, attempt)
    metrics = _recorded(draft, attempt.result.metrics) if attempt.result else {}
    draft.update(name, state=StepState.SUCCEEDED, metrics=metrics, message=None, stalls=0, stalled_since=None)
    draft.event("Normal", "StepSucceeded", f"{name} is done (attempt {attempt.number})")
    _tell_warnings(draft, name)


def _tell_warnings(draft: Draft, name: str) -> None:
    """Tells what the last attempt of a step has found. An earlier one's are found again by the next, or are no more."""
    progress = draft.steps[name].progress
    if progress is not None and progress.warnings:
        draft.event("Warning", STEP_WARNED, f"{name}: {'; '.join(progress.warnings)}")


def _recorded(draft: Draft, metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns as many metrics as a record holds, first those that gates name."""
    named = {one.metric for one in draft.plan.evaluation.gates}
    first = sorted(metrics, key=lambda name: name not in named)
    return {name: metrics[name] for name in first[:METRICS_LIMIT]}


def _interrupted(draft: Draft, name: str, message: str, reached: int) -> None:
    """An interruption is not counted, unless several in a row made no progress; what somebody suspends never is."""
    record = draft.steps[name]
    suspended = draft.run.spec.suspend or draft.was.phase is Phase.SUSPENDED
    yielded = record.yielded_attempt == record.attempt
    meant = suspended or yielded or record.suspended_attempt == record.attempt
    message = (record.message or message) if yielded else message
    stalls = 0 if reached > record.resumed_step else record.stalls + (not meant)
    since = None
    if name in FIXED_STEPS and stalls and not meant:
        since = conditions.not_ahead(record.stalled_since or timestamp(draft.now), draft.now)
    draft.update(name, state=StepState.WAITING, message=message, resumed_step=max(reached, record.resumed_step))
    if why := _stalled(draft, name, stalls, since):
        _count_failure(draft, name, f"{why}: {message}")
        return
    draft.update(name, stalls=stalls, stalled_since=since)
    if yielded:
        return  # That was told when it gave way.
    goes_on = "goes on" if name not in FIXED_STEPS or not stalls else "begins anew"
    draft.event("Normal", "StepInterrupted", f"{name} was interrupted and {goes_on}: {message}")


def _stalled(draft: Draft, name: str, stalls: int, since: str | None) -> str | None:
    """Returns why interruptions without progress are a failure by now; None while they are none.

    A step that takes no training steps keeps what it has fetched and begins anew with the rest. Others interrupt it as
    often as they like, so it is given time as well; what has it evicted for ever ends all the same.
    """
    if name not in FIXED_STEPS:
        return f"interrupted {stalls} times without progress" if stalls >= draft.policy.stalls else None
    lasted = draft.now - conditions.parse_timestamp(since) if since else timedelta(0)
    if stalls < draft.policy.restarts or lasted < draft.policy.patience:
        return None
    return f"interrupted {stalls} times in {in_words(lasted.total_seconds())}, and got no further"


def _position(progress: Progress | None) -> int:
    """How far a step has come for good: its training steps, or what it keeps where it takes none."""
    return (progress.step or progress.kept) if progress else 0


def _count_failure(draft: Draft, name: str, message: str) -> None:
    record = draft.steps[name]
    failures = record.failures + 1
    out = failures > draft.plan.retries
    reached = _position(record.progress)
    draft.update(
        name,
        state=StepState.FAILED if out else StepState.WAITING,
        failures=failures,
        stalls=0,
        stalled_since=None,
        resumed_step=max(reached, record.resumed_step),
        message=message,
    )
    left = "no retries are left" if out else f"{draft.plan.retries - failures} retries are left"
    draft.event("Warning", "StepFailed", f"{name} failed, {left}: {message}")
    if out:
        _tell_warnings(draft, name)


def create(draft: Draft, name: str) -> None:
    """Starts the next attempt of a step."""
    number = draft.plan.next_attempt(draft.steps[name].attempt)
    draft.create.append(
        CreateAttempt(name, number, baseline(draft) if name == "evaluate" else None, _inputs(draft, name))
    )
    record, compute = draft.steps[name], draft.plan.compute
    spread = name not in FIXED_STEPS
    draft.update(
        name,
        state=StepState.RUNNING,
        attempt=number,
        job=None,
        progress=_of_next_attempt(record.progress),
        nodes=compute.nodes if spread else None,
        processes_per_node=compute.processes_per_node if spread else None,
        started_at=record.started_at or timestamp(draft.now),
        finished_at=None,
    )


def _inputs(draft: Draft, name: str) -> Inputs:
    """Returns what a step may rely upon of that which it finds in the workspace: others can write there."""
    match name:
        case "prepare":
            return Inputs(held_out=draft.held_out_digest)
        case "evaluate":
            return Inputs(held_out=draft.held_out_digest, artifact=draft.artifact.digest if draft.artifact else None)
        case "export":
            return Inputs()
        case "publish":
            return Inputs(
                artifact=draft.artifact.digest if draft.artifact else None,
                tracking=_tracking(draft),
                judged=Judged.of(draft.evaluation).to_json() if draft.evaluation else None,
            )
        case _:
            return Inputs(tracking=_tracking(draft))


def _tracking(draft: Draft) -> str | None:
    tracking = draft.plan.tracking
    return tracking.model_dump_json(by_alias=True, exclude_none=True) if tracking is not None else None


def _after(attempts: int) -> str:
    return f" after {attempts} attempts" if attempts > 1 else ""


def _failed(draft: Draft, name: str) -> Phase:
    record = draft.steps[name]
    draft.condition(
        "Progressing",
        "False",
        "StepFailed",
        f"{name} failed{_after(draft.plan.attempts_made(record.attempt))}: {record.message}",
    )
    return Phase.FAILED


def suspend(draft: Draft) -> Decision:
    for name in draft.plan.steps:
        if (running := account(draft, name)) is not None:
            draft.delete.append(DeleteAttempt(name, running.number, "the run is suspended"))
            draft.update(name, suspended_attempt=running.number)
    draft.condition("Progressing", "False", "Suspended", "set spec.suspend to false to go on from the last checkpoint")
    return draft.decide(Phase.SUSPENDED)


def _phase_of(step_name: str) -> Phase:
    known = {"prepare": Phase.PREPARING, "export": Phase.EXPORTING, "evaluate": Phase.EVALUATING}
    return known.get(step_name, Phase.TRAINING)


def backoff_left(draft: Draft, name: str) -> timedelta:
    """Returns how long the next attempt of a step still waits."""
    record = draft.steps[name]
    if record.finished_at is not None:
        # The clock of another replica was ahead, and the pause would be as much longer.
        draft.update(name, finished_at=conditions.not_ahead(record.finished_at, draft.now))
        record = draft.steps[name]
    # One interruption is soon over. A step that is interrupted again and again is in somebody's way.
    stalls = record.stalls - 1 if record.stalled_since is not None else 0
    times = max(record.failures, stalls)
    if record.state is not StepState.WAITING or not record.finished_at:
        return timedelta(0)
    pause = giving_way.pause(draft, record)
    if times > 0:
        pause = max(pause, min(draft.policy.backoff * 2 ** min(times - 1, 16), draft.policy.longest_backoff))
    return conditions.parse_timestamp(record.finished_at) + pause - draft.now


def _why(attempt: Attempt) -> str:
    error = attempt.result.error if attempt.result else None
    if error is not None:
        return f"{error.kind}: {error.message}"
    return attempt.message or attempt.result_error or "it said nothing"


def _progress_message(draft: Draft, name: str, attempt: Attempt) -> str:
    stays = "; it goes on where it was made, and the edit of compute counts from the next attempt"
    return _progress(draft, name, attempt) + (stays if attempt.elsewhere is not None else "")


def _progress(draft: Draft, name: str, attempt: Attempt) -> str:
    if attempt.state == "Starting":
        return attempt.message or under_way(name, attempt.number)
    progress = draft.steps[name].progress
    where = f", step {progress.step} of {progress.total}" if progress and progress.total else ""
    return under_way(name, attempt.number, where)


def under_way(name: str, number: int, where: str = "") -> str:
    """Returns that an attempt is there."""
    # One word for what starts and what runs: between the two nothing else changes, and words alone are worth no write.
    return f"{name} is under way (attempt {number}{where})"
