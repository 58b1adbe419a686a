"""The life of a run, as one pure function: what is recorded and what is observed in, what to do now out.

`step` reads top to bottom in policy order: retry → suspend → prepare → train stages → export → evaluate → judge →
promote. An executor calls it whenever the world may have changed, applies the decision, and writes the status once.
Calling it again with the same world decides the same, and an executor may die between any two of its actions:
attempts are numbered, so one that exists already is adopted, never made twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway_core import conditions, gate
from slipway_core.conditions import timestamp
from slipway_core.exit_codes import ExitClass
from slipway_core.observed import (
    Attempt,
    Baseline,
    Claim,
    CreateAttempt,
    Decision,
    DeleteAttempt,
    EndpointView,
    Event,
    Observed,
    Promote,
)
from slipway_core.plan import Plan
from slipway_core.status import (
    METRICS_LIMIT,
    ArtifactStatus,
    Condition,
    EndpointPhase,
    EvaluationStatus,
    Phase,
    RunEndpointStatus,
    RunStatus,
    StepState,
    StepStatus,
    Verdict,
    VersionStatus,
    fit,
)
from slipway_core.training_run import TrainingRun

RETRY_ANNOTATION = "slipway.dev/retry"
"""A new value gives a failed run its retries back."""
REEVALUATE_ANNOTATION = "slipway.dev/reevaluate"
"""A new value has a held run judged again."""
OWN_CONDITIONS = ("Planned", "Progressing", "Passed", "Live")
"""Conditions that every run has. Each other one is there for as long as something is in the way."""
_TOKEN_LIMIT = 253
"""Characters of an annotation's value that a status holds as it is; an annotation may have 256 KiB."""

DAMAGED_DATA = "DamagedShard:"
"""How the message of a step begins that found prepared data damaged."""
DAMAGED_ARTIFACT = "BadArtifact:"
"""How the message of an evaluation begins that found the artifact damaged."""


@dataclass(frozen=True)
class Policy:
    """How patient the lifecycle is. Executors differ in the time scale alone."""

    backoff: timedelta = timedelta(seconds=10)
    """Wait after the first counted failure; doubled for each further one."""
    longest_backoff: timedelta = timedelta(minutes=5)
    stalls: int = 3
    """Interruptions in a row without progress that count as one failure."""


def step(run: TrainingRun, plan: Plan, observed: Observed, now: datetime, policy: Policy | None = None) -> Decision:
    """Decides what a run needs now.

    Args:
        run: the resource with its recorded status.
        plan: what runs; resolved once, it does not change with the resource.
        observed: the whole world of the run.
        now: the time, aware of its zone.
        policy: how patient to be.
    """
    draft = _Draft.of(run, plan, observed, now, policy or Policy())
    _show_blockers(draft)
    _honour_retry(draft)
    if run.spec.suspend and not draft.was.phase.finished:
        return _suspend(draft)

    for name in plan.steps:
        if phase := _advance(draft, name):
            return draft.decide(phase)

    if _must_judge_again(draft) and (phase := _advance(draft, "export") or _advance(draft, "evaluate")):
        return draft.decide(phase)
    if phase := _stopped_by_the_gate(draft):
        return draft.decide(phase)
    return draft.decide(_promote(draft))


def request_token(annotations: Mapping[str, str], name: str) -> str | None:
    """Returns the value of an annotation that asks for something, as a status remembers it: a hash of a long one."""
    value = annotations.get(name)
    if value is None or len(value) <= _TOKEN_LIMIT:
        return value
    return hashlib.sha256(value.encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------- steps


def _advance(draft: _Draft, name: str) -> Phase | None:
    """Brings one step forward. Returns the phase while the run has to wait for it, None when it is behind us."""
    running = _account(draft, name)
    record = draft.steps[name]
    if record.state is StepState.SUCCEEDED:
        return None
    if record.state is StepState.FAILED:
        return None if name == "evaluate" else _failed(draft, name)
    phase = _phase_of(name)
    if running is not None:
        if draft.observed.queued is None and running.state == "Starting" and draft.observed.blockers:
            causes = ", ".join(blocker.type for blocker in draft.observed.blockers)
            draft.condition("Progressing", "True", "Waiting", f"{name} waits (attempt {running.number}): {causes}")
            return Phase.PENDING
        draft.condition("Progressing", "True", phase.value, _progress_message(draft, name, running))
        return phase if draft.observed.queued is None else Phase.QUEUED

    wait = _backoff_left(draft, record)
    if wait > timedelta(0):
        draft.look_again = wait
        draft.condition(
            "Progressing",
            "True",
            "BackingOff",
            f"{name} is tried again in {wait.seconds} s: {record.message}",
        )
        return phase
    _create(draft, name, record.attempt + 1)
    return phase


def _account(draft: _Draft, name: str) -> Attempt | None:
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
        _interrupted(draft, name, "it vanished", record.progress.step if record.progress else 0)
    return None


def _adopt(draft: _Draft, name: str, attempt: Attempt) -> None:
    record = draft.steps[name]
    draft.steps[name] = record.model_copy(
        update={
            "state": StepState.RUNNING,
            "attempt": attempt.number,
            "started_at": record.started_at or timestamp(attempt.started_at),
            "progress": attempt.progress or record.progress,
            "finished_at": None,
        }
    )


def _enter(draft: _Draft, name: str, attempt: Attempt) -> None:
    """Enters one ended attempt by the class of its exit."""
    told = attempt.result.progress if attempt.result and attempt.result.progress else attempt.progress
    # A process that was killed leaves no word, and an executor that was killed with it has heard none.
    reached = told or draft.steps[name].progress
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
            _crashed_evaluation(draft, name, attempt)
        case ExitClass.INTERRUPTED | ExitClass.LOST_PEERS:
            _interrupted(draft, name, message, reached.step if reached else 0)
            _crashed_evaluation(draft, name, attempt)
        case ExitClass.FAILED:
            _count_failure(draft, name, message)
            _crashed_evaluation(draft, name, attempt)


def _completed(draft: _Draft, name: str, attempt: Attempt) -> None:
    if name == "export":
        artifact = attempt.result.artifact if attempt.result else None
        if artifact is None:
            _count_failure(draft, name, attempt.result_error or "the export named no artifact")
            return
        draft.artifact = ArtifactStatus(uri=artifact.uri, digest=artifact.digest)
    if name == "evaluate":
        _judge(draft, attempt)
    metrics = _recorded(draft, attempt.result.metrics) if attempt.result else {}
    draft.update(name, state=StepState.SUCCEEDED, metrics=metrics, message=None, stalls=0)
    draft.event("Normal", "StepSucceeded", f"{name} is done (attempt {attempt.number})")


def _recorded(draft: _Draft, metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns as many metrics as a record holds, first those that gates name."""
    named = {one.metric for one in draft.plan.evaluation.gates}
    first = sorted(metrics, key=lambda name: name not in named)
    return {name: metrics[name] for name in first[:METRICS_LIMIT]}


def _interrupted(draft: _Draft, name: str, message: str, reached: int) -> None:
    """An interruption is not counted, unless several in a row made no progress; what somebody suspends never is."""
    record = draft.steps[name]
    meant = draft.run.spec.suspend or draft.was.phase is Phase.SUSPENDED
    stalls = 0 if reached > record.resumed_step else record.stalls + (not meant)
    draft.update(name, state=StepState.WAITING, message=message, resumed_step=max(reached, record.resumed_step))
    if stalls >= draft.policy.stalls:
        _count_failure(draft, name, f"interrupted {stalls} times without progress: {message}")
        return
    draft.update(name, stalls=stalls)
    draft.event("Normal", "StepInterrupted", f"{name} was interrupted and goes on: {message}")


def _count_failure(draft: _Draft, name: str, message: str) -> None:
    record = draft.steps[name]
    failures = record.failures + 1
    out = failures > draft.plan.retries
    reached = record.progress.step if record.progress else 0
    draft.update(
        name,
        state=StepState.FAILED if out else StepState.WAITING,
        failures=failures,
        stalls=0,
        resumed_step=max(reached, record.resumed_step),
        message=message,
    )
    left = "no retries are left" if out else f"{draft.plan.retries - failures} retries are left"
    draft.event("Warning", "StepFailed", f"{name} failed, {left}: {message}")


def _create(draft: _Draft, name: str, number: int) -> None:
    draft.create.append(CreateAttempt(name, number, _baseline(draft) if name == "evaluate" else None))
    record = draft.steps[name]
    draft.update(
        name,
        state=StepState.RUNNING,
        attempt=number,
        started_at=record.started_at or timestamp(draft.now),
        finished_at=None,
    )
    draft.condition("Progressing", "True", _phase_of(name).value, f"{name} starts (attempt {number})")


def _after(attempts: int) -> str:
    return f" after {attempts} attempts" if attempts > 1 else ""


def _failed(draft: _Draft, name: str) -> Phase:
    record = draft.steps[name]
    draft.condition(
        "Progressing",
        "False",
        "StepFailed",
        f"{name} failed{_after(record.attempt)}: {record.message}",
    )
    return Phase.FAILED


# ---------------------------------------------------------------------------------------------------- gate


def _judge(draft: _Draft, attempt: Attempt) -> None:
    """Holds the evaluation against the gates and records the verdict."""
    evaluation = attempt.result.evaluation if attempt.result else None
    if evaluation is None or attempt.result is None:
        _inconclusive(draft, attempt.number, attempt.result_error or "the evaluation reported nothing")
        return
    artifact = draft.artifact
    if artifact is None or evaluation.artifact_digest != artifact.digest:
        _inconclusive(draft, attempt.number, f"the evaluation was of {evaluation.artifact_digest}, not of the artifact")
        return
    judgement = gate.judge(
        draft.plan.evaluation.gates,
        gate.Measured(
            metrics=attempt.result.metrics,
            scored_tokens=evaluation.scored_tokens,
            missing=attempt.result.missing,
            baseline=evaluation.baseline_metrics if evaluation.baseline_digest else None,
        ),
    )
    draft.evaluation = EvaluationStatus(
        number=attempt.number,
        verdict=judgement.verdict,
        metrics=list(judgement.metrics),
        scored_tokens=evaluation.scored_tokens,
        data_digest=evaluation.data_digest,
        artifact_digest=evaluation.artifact_digest,
        baseline_digest=evaluation.baseline_digest,
        recall_overlap=evaluation.recall_overlap,
        reason=fit(judgement.reason) or None,
        reevaluation=_reevaluation(draft),
    )
    draft.event(
        "Normal" if judgement.verdict is Verdict.PASS else "Warning",
        "Judged",
        f"{judgement.verdict}: {judgement.reason}",
    )


def _crashed_evaluation(draft: _Draft, name: str, attempt: Attempt) -> None:
    """An evaluation that cannot be completed is inconclusive: the model is neither good nor bad."""
    record = draft.steps[name]
    if name == "evaluate" and record.state is StepState.FAILED:
        _inconclusive(draft, attempt.number, f"the evaluation failed: {record.message}")


def _inconclusive(draft: _Draft, number: int, reason: str) -> None:
    draft.evaluation = EvaluationStatus(
        number=number,
        verdict=Verdict.INCONCLUSIVE,
        artifact_digest=draft.artifact.digest if draft.artifact else None,
        reason=fit(reason),
        reevaluation=_reevaluation(draft),
    )
    draft.event("Warning", "Judged", f"Inconclusive: {reason}")


def _stopped_by_the_gate(draft: _Draft) -> Phase | None:
    """Returns the phase of a run whose model may not go live, None when it may."""
    evaluation = draft.evaluation
    verdict = evaluation.verdict if evaluation else Verdict.INCONCLUSIVE
    reason = (evaluation.reason if evaluation else None) or verdict.value
    match verdict:
        case Verdict.PASS:
            draft.condition("Passed", "True", "GatesPassed", reason)
            return None
        case Verdict.NOT_APPLICABLE:
            draft.condition("Passed", "Unknown", "NoGates", "no gate applied to this model")
            return None if draft.plan.serving is None else _hold(draft, "no gate applied to this model")
        case Verdict.FAIL:
            draft.condition("Passed", "False", "GateFailed", reason)
            draft.condition("Progressing", "False", "Rejected", f"the model did not pass: {reason}")
            return Phase.REJECTED
        case Verdict.INCONCLUSIVE:
            draft.condition("Passed", "Unknown", "Inconclusive", reason)
            if draft.plan.evaluation.on_inconclusive == "Reject":
                draft.condition("Progressing", "False", "Rejected", f"could not be judged: {reason}")
                return Phase.REJECTED
            return _hold(draft, reason)


def _hold(draft: _Draft, reason: str) -> Phase:
    fix = f"mend the cause, then set the annotation {REEVALUATE_ANNOTATION} to a new value"
    draft.condition("Progressing", "False", "Held", f"could not be judged: {reason}; {fix}")
    return Phase.HELD


def _must_judge_again(draft: _Draft) -> bool:
    """Opens the evaluation again when a held run is asked to, or when the live version is no longer the one that
    the model was compared with. Says whether it did."""
    evaluation, record = draft.evaluation, draft.steps["evaluate"]
    if evaluation is None:
        return False
    wish = request_token(draft.run.metadata.annotations, REEVALUATE_ANNOTATION)
    held = evaluation.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE)
    asked = held and wish is not None and wish != evaluation.reevaluation
    if not asked and not _baseline_moved(draft, evaluation):
        return False
    cause = "asked for" if asked else "the live version changed since"
    draft.event("Normal", "Reevaluating", f"the model is judged again: {cause}")
    if (record.message or "").startswith(DAMAGED_ARTIFACT):
        # The weights that it is made from are still there; export writes it anew where it is not as it was.
        draft.update("export", state=StepState.WAITING, finished_at=None)
    draft.steps["evaluate"] = StepStatus(name="evaluate", state=StepState.PENDING, attempt=record.attempt)
    return True


def _reevaluation(draft: _Draft) -> str | None:
    return request_token(draft.run.metadata.annotations, REEVALUATE_ANNOTATION)


def _baseline(draft: _Draft) -> Baseline | None:
    """Returns the live version that a gate compares with, if any gate does and one is live that is not ours."""
    view = draft.observed.endpoint
    if draft.plan.serving is None or view is None:
        return None
    if not any(g.max_regression is not None for g in draft.plan.evaluation.gates):
        return None
    live = view.status.live
    if live is None or draft.artifact is None or live.digest == draft.artifact.digest:
        return None
    return Baseline(live.uri, live.digest, live.credentials)


def _baseline_moved(draft: _Draft, evaluation: EvaluationStatus) -> bool:
    if evaluation.verdict is not Verdict.PASS or _promoted(draft):
        return False
    view, serving = draft.observed.endpoint, draft.plan.serving
    if serving is not None and _is_over(draft, serving.endpoint, view):
        return False  # What goes live there now is somebody else's choice, and no rollout follows.
    if view is not None and view.claim is not None and _is_later(view.claim, draft):
        return False  # The endpoint is a later run's: there is no rollout to be judged for.
    live = _baseline(draft)
    return live is not None and live.digest != evaluation.baseline_digest


# ---------------------------------------------------------------------------------------------------- promotion


def _promote(draft: _Draft) -> Phase:
    """Takes a model that passed to its endpoint, and says how it fares there."""
    serving, artifact = draft.plan.serving, draft.artifact
    if serving is None or artifact is None:
        passed = draft.evaluation is not None and draft.evaluation.verdict is Verdict.PASS
        judged = "the model passed" if passed else "no gate applied to the model"
        draft.condition("Progressing", "False", "Completed", f"{judged}; the run has no serving")
        return Phase.COMPLETED
    view = draft.observed.endpoint
    draft.endpoint = _on_endpoint(draft, serving.endpoint, view)
    if view is None or not _promoted(draft):
        if view is not None and view.claim is not None and _is_later(view.claim, draft):
            return _superseded(draft, view.claim)
        if _is_over(draft, serving.endpoint, view):
            return _let_go(draft, serving.endpoint, view)
        draft.promote = Promote(serving.endpoint, artifact.uri, artifact.digest, draft.run.name, draft.retry)
        draft.condition("Live", "False", "RollingOut", f"endpoint {serving.endpoint} was told to serve the model")
        draft.condition("Progressing", "True", "RollingOut", f"endpoint {serving.endpoint} rolls the model out")
        return Phase.ROLLING_OUT
    return _rollout_phase(draft, view, artifact.digest, serving.endpoint)


def _on_endpoint(draft: _Draft, name: str, view: EndpointView | None, version: int | None = None) -> RunEndpointStatus:
    retry = draft.retry if _promoted(draft) else _taken_up(draft, name)
    return RunEndpointStatus(name=name, url=view.status.url if view else None, version=version, retry=retry)


def _rollout_phase(draft: _Draft, view: EndpointView, digest: str, name: str) -> Phase:
    live, candidate = view.status.live, view.status.candidate
    serves = draft.was.phase is Phase.SERVING
    if live is not None and live.digest == digest and _traffic_moves(view) and not serves:
        # It takes a moment, and other words would take a write; of a long one the endpoint says why.
        said = conditions.find(draft.was.conditions, "Live") if draft.was.phase is Phase.ROLLING_OUT else None
        return _rolls_out(draft, said.message if said else f"the traffic moves to version {live.version}")
    if live is not None and live.digest == digest:
        draft.endpoint = _on_endpoint(draft, name, view, live.version)
        if not _answers(view):
            if view.current and view.status.phase is EndpointPhase.STOPPED:
                # It answered a prompt when it became the live version; nothing is left for the run to wait for.
                message = f"endpoint {name} has the model as version {live.version} and is stopped"
                draft.condition("Live", "False", "Stopped", f"{message}; `slipway resume endpoint/{name}` starts it")
                draft.condition("Progressing", "False", "Serving", message)
                return Phase.SERVING
            has = f"endpoint {name} has the model as version {live.version}, which does not answer"
            if serves and view.current:
                # The endpoint says why. The run itself is over and begins no rollout.
                draft.condition("Live", "False", "NotAnswering", f"{has} now")
                return Phase.SERVING
            message = f"{has} yet"
            draft.condition("Live", "False", "NotAnswering", message)
            draft.condition("Progressing", "True", "RollingOut", message)
            return Phase.ROLLING_OUT
        if not view.current or (candidate is not None and candidate.digest == digest):
            message = f"endpoint {name} serves the model and takes up its new settings"
            draft.condition("Live", "True", "Serving", message)
            draft.condition("Progressing", "True", "RollingOut", message)
            return Phase.ROLLING_OUT
        draft.condition("Live", "True", "Serving", f"endpoint {name} serves the model as version {live.version}")
        draft.condition("Progressing", "False", "Serving", "the model is live")
        return Phase.SERVING
    own = [v for v in [candidate, *view.status.history] if v is not None and v.digest == digest]
    ours = next((v for v in own if v.state != "Dropped"), None)
    settled = view.current and (ours is None or ours is not candidate)
    failed = ours is not None and ours.state == "Failed" and draft.was.phase is Phase.FAILED
    if settled and view.rollback_to is not None and not failed:
        return _rolled_back(draft, name, view.rollback_to, ours)
    if settled and ours is not None:
        if ours.state == "Failed":
            kept = f"; version {live.version} stays live" if live else ""
            message = f"the model passed and could not be served: {ours.message}{kept}"
            draft.condition("Live", "False", "RolloutFailed", f"version {ours.version}: {ours.message}")
            draft.condition("Progressing", "False", "RolloutFailed", message)
            return Phase.FAILED
        draft.condition("Live", "False", "Replaced", f"version {ours.version} was live and was replaced")
        draft.condition("Progressing", "False", "Completed", f"the model was live on {name} and was replaced")
        return Phase.COMPLETED
    return _rolls_out(draft, _how_far(own[0] if own else None, view) or "the endpoint starts the new version")


def _rolls_out(draft: _Draft, message: str) -> Phase:
    draft.condition("Live", "False", "RollingOut", message)
    draft.condition("Progressing", "True", "RollingOut", message)
    return Phase.ROLLING_OUT


def _how_far(newest: VersionStatus | None, view: EndpointView) -> str | None:
    """What is to be said of a model that is not live yet, by the newest version of it."""
    if newest is not None and newest is view.status.candidate:
        return newest.message
    if newest is not None and newest.state == "Dropped" and view.current:
        return f"version {newest.version} was dropped before it was live: {newest.message}"
    return None


def _rolled_back(draft: _Draft, name: str, to: int, ours: VersionStatus | None) -> Phase:
    """Somebody wants another version back, and a run does not undo that: it has nothing more to do."""
    why = f"endpoint {name} is rolled back to version {to} by spec.rollbackTo; clear it to let this model go live"
    if ours is not None and ours.state in ("Standby", "Retired"):
        why = f"version {ours.version} was live; {why} again"
    draft.condition("Live", "False", "RolledBack", why)
    draft.condition("Progressing", "False", "Completed", why)
    return Phase.COMPLETED


def _answers(view: EndpointView) -> bool:
    """Whether the live version gets the requests; it does while a candidate is on its way."""
    return view.status.phase in (EndpointPhase.SERVING, EndpointPhase.ROLLING_OUT) and not _traffic_moves(view)


def _traffic_moves(view: EndpointView) -> bool:
    """Whether a version was made live a moment ago, and the requests do not go to it yet."""
    return view.status.phase is EndpointPhase.ROLLING_OUT and view.status.candidate is None


def _promoted(draft: _Draft) -> bool:
    """Whether the endpoint was told to serve this run's artifact, in its newest try."""
    view, artifact, serving = draft.observed.endpoint, draft.artifact, draft.plan.serving
    if view is None or view.claim is None or artifact is None or serving is None:
        return False
    # Once the endpoint took up the run's retry, one that somebody asks of the endpoint itself is none of the run's.
    tried = draft.retry in (None, view.status.retry, _taken_up(draft, serving.endpoint))
    return view.claim.run == draft.run.name and view.claim.digest == artifact.digest and tried


def _taken_up(draft: _Draft, endpoint: str) -> str | None:
    """The run's newest retry that this endpoint is known to have taken up."""
    before = draft.was.endpoint
    return before.retry if before is not None and before.name == endpoint else None


def _is_over(draft: _Draft, endpoint: str, view: EndpointView | None) -> bool:
    """Whether the run had its time with this endpoint: what people did to the endpoint since then stays done.

    A run that serves tells an endpoint again that has no model, or that of an older run, told in the same moment.
    """
    was = draft.was
    if was.endpoint is None or was.endpoint.name != endpoint or was.retry != draft.retry:
        return False
    # Who edits the model by hand leaves the run's annotations; an endpoint that was made by hand has none.
    by_hand = view is None or (view.claim is not None and view.claim.uid in ("", draft.plan.run.uid))
    return was.phase in (Phase.COMPLETED, Phase.FAILED) or (was.phase is Phase.SERVING and by_hand)


def _let_go(draft: _Draft, endpoint: str, view: EndpointView | None) -> Phase:
    draft.endpoint = draft.was.endpoint
    if draft.was.phase is not Phase.SERVING:
        return draft.was.phase
    again = f"set the annotation {RETRY_ANNOTATION} to a new value to have it serve this model again"
    if view is None:
        draft.condition("Live", "False", "EndpointDeleted", f"endpoint {endpoint} was deleted; {again}")
    else:
        draft.condition("Live", "False", "Replaced", f"endpoint {endpoint} was told to serve another model; {again}")
    draft.condition("Progressing", "False", "Completed", f"the model was live on {endpoint} and is not any more")
    return Phase.COMPLETED


def _is_later(claim: Claim, draft: _Draft) -> bool:
    """Whether the endpoint serves a run that was created after this one; the uid decides between equals."""
    if claim.run == draft.run.name:
        return False
    metadata = draft.run.metadata
    return (claim.created, claim.uid) > (metadata.creation_timestamp or "", draft.plan.run.uid)


def _superseded(draft: _Draft, claim: Claim) -> Phase:
    draft.condition("Live", "False", "Superseded", f"run {claim.run} was created later and has the endpoint")
    draft.condition("Progressing", "False", "Completed", f"the model passed; run {claim.run} has the endpoint")
    return Phase.COMPLETED


# ---------------------------------------------------------------------------------------------------- the rest


def _suspend(draft: _Draft) -> Decision:
    for name in draft.plan.steps:
        if (running := _account(draft, name)) is not None:
            draft.delete.append(DeleteAttempt(name, running.number, "the run is suspended"))
    draft.condition("Progressing", "False", "Suspended", "set spec.suspend to false to go on from the last checkpoint")
    return draft.decide(Phase.SUSPENDED)


def _honour_retry(draft: _Draft) -> None:
    wish = request_token(draft.run.metadata.annotations, RETRY_ANNOTATION)
    if wish is None or wish == draft.retry:
        return
    draft.retry = wish
    for name, record in draft.steps.items():
        if record.state is StepState.FAILED:
            draft.steps[name] = record.model_copy(
                update={"state": StepState.WAITING, "failures": 0, "stalls": 0, "finished_at": None}
            )
            draft.event("Normal", "Retrying", f"{name} is tried again")
            if (record.message or "").startswith(DAMAGED_DATA):
                _prepare_again(draft)


def _prepare_again(draft: _Draft) -> None:
    """What prepare wrote is damaged; it checks what is there and makes anew what is not as it was."""
    record = draft.steps["prepare"]
    if record.state is StepState.SUCCEEDED:
        draft.steps["prepare"] = record.model_copy(update={"state": StepState.WAITING, "finished_at": None})
        draft.event("Normal", "Retrying", "prepare is run again: its data is damaged")


def _show_blockers(draft: _Draft) -> None:
    queued = draft.observed.queued
    shown = (*draft.observed.blockers, *([queued] if queued is not None else []))
    types = {blocker.type for blocker in shown}
    for condition in list(draft.conditions):
        if condition.type not in OWN_CONDITIONS and condition.type not in types:
            draft.conditions = conditions.drop(draft.conditions, condition.type)
    draft.events += conditions.warnings(draft.was.conditions, draft.observed.blockers)
    for blocker in shown:
        draft.condition(blocker.type, "True", blocker.reason, blocker.message)


def _phase_of(step_name: str) -> Phase:
    known = {"prepare": Phase.PREPARING, "export": Phase.EXPORTING, "evaluate": Phase.EVALUATING}
    return known.get(step_name, Phase.TRAINING)


def _backoff_left(draft: _Draft, record: StepStatus) -> timedelta:
    if record.state is not StepState.WAITING or not record.failures or not record.finished_at:
        return timedelta(0)
    pause = min(draft.policy.backoff * 2 ** min(record.failures - 1, 16), draft.policy.longest_backoff)
    return conditions.parse_timestamp(record.finished_at) + pause - draft.now


def _why(attempt: Attempt) -> str:
    error = attempt.result.error if attempt.result else None
    if error is not None:
        return f"{error.kind}: {error.message}"
    return attempt.message or attempt.result_error or "it said nothing"


def _progress_message(draft: _Draft, name: str, attempt: Attempt) -> str:
    if attempt.state == "Starting":
        return attempt.message or f"{name} starts (attempt {attempt.number})"
    progress = draft.steps[name].progress
    where = f", step {progress.step} of {progress.total}" if progress and progress.total else ""
    return f"{name} runs (attempt {attempt.number}{where})"


@dataclass
class _Draft:
    """The decision while it is being made."""

    run: TrainingRun
    plan: Plan
    observed: Observed
    now: datetime
    policy: Policy
    was: RunStatus
    steps: dict[str, StepStatus]
    conditions: list[Condition]
    evaluation: EvaluationStatus | None
    artifact: ArtifactStatus | None
    endpoint: RunEndpointStatus | None
    retry: str | None
    create: list[CreateAttempt] = field(default_factory=list[CreateAttempt])
    delete: list[DeleteAttempt] = field(default_factory=list[DeleteAttempt])
    events: list[Event] = field(default_factory=list[Event])
    promote: Promote | None = None
    look_again: timedelta | None = None

    @classmethod
    def of(cls, run: TrainingRun, plan: Plan, observed: Observed, now: datetime, policy: Policy) -> _Draft:
        was = run.status or RunStatus()
        steps = {name: was.step(name) or StepStatus(name=name, state=StepState.PENDING) for name in plan.steps}
        draft = cls(
            run, plan, observed, now, policy, was, steps,
            list(was.conditions), was.evaluation, was.artifact, was.endpoint, was.retry,
        )  # fmt: skip
        draft.condition("Planned", "True", "Resolved", f"the plan has the digest {plan.digest}")
        return draft

    def condition(self, type_: str, status: conditions.Status, reason: str, message: str) -> None:
        generation = self.run.metadata.generation
        self.conditions = conditions.put(self.conditions, type_, status, reason, message, self.now, generation)

    def event(self, type_: str, reason: str, message: str) -> None:
        self.events.append(Event("Warning" if type_ == "Warning" else "Normal", reason, message))

    def update(self, name: str, **fields: object) -> None:
        if isinstance(message := fields.get("message"), str):
            fields["message"] = fit(message)
        self.steps[name] = self.steps[name].model_copy(update=fields)

    def decide(self, phase: Phase) -> Decision:
        if phase is not self.was.phase:
            self.event("Normal", "PhaseChanged", f"{self.was.phase} → {phase}")
        status = RunStatus(
            observed_generation=self.run.metadata.generation,
            phase=phase,
            conditions=self.conditions,
            plan_digest=self.plan.digest,
            stages=list(self.steps.values()),
            evaluation=self.evaluation,
            artifact=self.artifact,
            endpoint=self.endpoint,
            retry=self.retry,
        )
        return Decision(
            status, tuple(self.create), tuple(self.delete), self.promote, tuple(self.events), self.look_again
        )
