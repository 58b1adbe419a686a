"""One pass over a run: observe, `lifecycle.step`, apply, write one status, tell what happened.

The twin of the local executor; policy is `lifecycle.step` alone. Every action is safe to repeat: attempts are numbered
and their Jobs are created, never changed, so that a pass that dies between two calls is picked up by the next one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from slipway_core.lifecycle import step as lifecycle
from slipway_core.lifecycle.decision import Decision
from slipway_core.lifecycle.draft import FOLDER_ADOPTED, Policy
from slipway_core.lifecycle.observed import EndpointView, Observed
from slipway_core.lifecycle.publication import STEP as PUBLISH
from slipway_core.lifecycle.publication import is_under_way
from slipway_core.plan import Plan
from slipway_core.resources import conditions
from slipway_core.resources.api import seconds
from slipway_core.resources.conditions import Blocker, parse_timestamp
from slipway_core.resources.stage import FIXED_STEPS
from slipway_core.resources.status import RunStatus, StepState
from slipway_core.resources.training_run import TrainingRun
from slipway_operator.cache.key import Key
from slipway_operator.cache.world import TOO_MANY, World
from slipway_operator.common import refusal, unreadable
from slipway_operator.common.large_objects import LATER, LargeObjects
from slipway_operator.common.next_look import soonest
from slipway_operator.common.owned_objects import TakenError
from slipway_operator.common.refusal import Refusal
from slipway_operator.common.signing_key import SigningKeyError
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.common.status_throttle import StatusThrottle, settled_run
from slipway_operator.common.too_many import TooMany
from slipway_operator.common.verdict_reader import VerdictReader
from slipway_operator.common.write_status import StatusInvalidError, write_status
from slipway_operator.kube import resources
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import Forbidden, Invalid, QuotaExceeded
from slipway_operator.kube.kinds import MODEL_ENDPOINT, TRAINING_RUN
from slipway_operator.kube.manifest import Manifest, at
from slipway_operator.loop.metrics import Metrics
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.owner import Owner
from slipway_operator.runs import observe, own_objects
from slipway_operator.runs.adoption import Adoption
from slipway_operator.runs.attempts import Attempts, ObservedAttempts, TellsProgress
from slipway_operator.runs.planning import Plans, check_place
from slipway_operator.runs.promotion import Promotion
from slipway_operator.runs.retention import Retention, time_left
from slipway_operator.runs.verdict_records import Verdicts
from slipway_operator.settings import Settings

log = logging.getLogger(__name__)

_STARTING = timedelta(seconds=10)
"""Between two looks at an attempt that has not started: why it does not is told by Events, which nobody watches."""
_QUEUED = timedelta(minutes=2)
"""Between two looks at an attempt that waits in a queue, at the most. Each asks Kueue why; admission is an event."""
_TOLD = frozenset({FOLDER_ADOPTED, "Judged", "StepInterrupted", "Retrying", "Reevaluating"})
"""Events of the lifecycle that are worth one on the cluster; the others say what status says."""


@dataclass
class RunReconciler:
    cluster: Cluster
    world: World
    settings: Settings
    pods: TellsProgress
    metrics: Metrics
    clock: Callable[[], datetime]
    records: VerdictReader
    keys: SigningKeys
    large: LargeObjects
    """That of the process: what passes over large objects take is its memory, of whatever kind they are."""
    monotonic: Callable[[], float] = time.monotonic
    plans: Plans = field(init=False)
    attempts: Attempts = field(init=False)
    verdicts: Verdicts = field(init=False)
    promotion: Promotion = field(init=False)
    retention: Retention = field(init=False)
    too_many: TooMany = field(init=False)
    writes: StatusThrottle[RunStatus] = field(init=False)
    policy: Policy = field(init=False)
    _uids: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Of the run that was seen last under a name: whatever is remembered of it goes when it does."""

    def __post_init__(self) -> None:
        adoption = Adoption(self.cluster, self.world, self.settings)
        self.plans = Plans(self.cluster, self.world, self.settings, adoption)
        self.attempts = Attempts(self.cluster, self.world, self.settings, self.pods, self.clock)
        self.verdicts = Verdicts(self.cluster, self.world, self.records, self.keys)
        self.promotion = Promotion(self.cluster, self.world)
        deciding = adoption.deciding
        self.retention = Retention(self.cluster, self.world, self.settings, self.clock, self.records, deciding)
        self.too_many = TooMany(self.cluster, self.world, self.clock)
        self.writes = StatusThrottle(settled_run, self.monotonic, self.settings.progress_seconds)
        backoff, longest, half_placed = (
            timedelta(seconds=seconds(duration))
            for duration in (self.settings.backoff, self.settings.longest_backoff, self.settings.give_way_after)
        )
        self.policy = Policy(backoff, longest, half_placed=half_placed)

    async def reconcile(self, namespace: str, name: str) -> timedelta | None:
        """Brings a run one step on. Returns when to look again at the latest; None waits for an event.

        Raises ClusterError: the pass is repeated later.
        """
        with self.large.turn(self.world.weight(TRAINING_RUN, namespace, name)) as may:
            return await self._reconcile(namespace, name) if may else LATER

    async def _reconcile(self, namespace: str, name: str) -> timedelta | None:
        manifest = self.world.get(TRAINING_RUN, namespace, name)
        if self._uids.get((namespace, name)) != at(manifest, "metadata").get("uid"):
            self._forget(namespace, name)
        if manifest is None and await self.too_many.take_in(TRAINING_RUN, namespace, name):
            manifest = self.world.get(TRAINING_RUN, namespace, name)
        if manifest is None:
            return await self.retention.reconcile(namespace, name)
        if "deletionTimestamp" in manifest["metadata"]:
            return None
        self._uids[namespace, name] = manifest["metadata"]["uid"]
        try:
            run = resources.run(manifest)
        except resources.UnreadableError as error:
            await unreadable.tell(self.cluster, self.world, manifest, error, self.clock())
            return None
        left = time_left(run, self.clock())
        if left is not None and left <= timedelta(0):
            await self.cluster.delete(TRAINING_RUN, namespace, name, uid=run.metadata.uid)
            return None
        try:
            over = run.status is not None and run.status.phase.finished
            if (blocker := self._beyond(run)) is not None:
                if not over:
                    await self.too_many.tell(manifest, blocker)
                return left
            return soonest(left, await self._planned(manifest, run, unread=over))
        except StatusInvalidError:
            return soonest(left, self._refused(run, "StatusInvalid"))

    async def _planned(self, manifest: Manifest, run: TrainingRun, *, unread: bool = False) -> timedelta | None:
        try:
            planned = await self.plans.of(run, unread=unread)
        except (QuotaExceeded, Forbidden, Invalid, ManifestError) as error:
            refused = Refusal(refusal.reason(error), str(error))
            status = refusal.refused(run, run.status or RunStatus(), refused, self.clock())
            await self._write(manifest, run, status)
            await self._warn(manifest, run, refused.blocker)
            return self._refused(run, refused.reason)
        if isinstance(planned, Blocker):
            await self._write(manifest, run, self._unplanned(run, planned))
            await self._warn(manifest, run, planned)
            return self._refused(run, planned.reason)
        await self.retention.is_back(run)
        return await self._pass(manifest, run, planned, read=not unread)

    async def _pass(self, manifest: Manifest, run: TrainingRun, plan: Plan, *, read: bool) -> timedelta | None:
        endpoint = self._endpoint(plan)
        baselines = own_objects.baselines(endpoint.status if endpoint is not None else None)
        seen = await self.attempts.observe(plan, Owner.of(manifest), run.status or RunStatus(), baselines)
        observed = Observed(seen.attempts, endpoint, seen.queued, seen.blockers)
        decision = lifecycle.step(run, plan, observed, self.clock(), self.policy)
        unsigned = _is_judgement_recorded(run, decision) and self.verdicts.lacks(plan, decision.status)
        if (decision.create or unsigned) and not read:
            return await self._planned(manifest, run)  # Nothing is made of a plan whose record was not read.
        jobs: dict[str, str] = {}
        refused = await self._apply(manifest, run, plan, seen, decision, jobs)
        decision = replace(decision, status=decision.status.with_jobs(jobs))
        # One that was refused is decided again, until the cluster takes it.
        status = decision.status if refused is None else refusal.status_after(run, decision, refused, self.clock())
        wait = await self._write(manifest, run, status)
        for event in decision.events:
            if event.type == "Warning" or event.reason in _TOLD:
                await self.cluster.record(manifest, event)
        if refused is not None:
            await self._warn(manifest, run, refused.blocker)
        if plan.folder is not None:
            # Its folder has a record of its own by now, so the earlier run's goes.
            await self.retention.reconcile(plan.run.namespace, plan.run.name)
        self._measure(run.status or RunStatus(), status)
        if refused is not None:
            return soonest(decision.look_again, self._refused(run, refused.reason))
        self.world.waiting.leave(_key(run))
        if status.phase.finished and not is_under_way(status) and _is_judgement_recorded(run, decision):
            self.attempts.forget(plan.run.uid)
            self.writes.forget(plan.run.uid)
        # A judgement is signed, and an endpoint told, in the pass after this one; of a model alone nobody is told.
        unsaid = status.evaluation is not None and not _is_judgement_recorded(run, decision)
        recorded = timedelta(0) if unsaid else None
        # Nothing wakes it later: one that is over by this pass alone has no pass after it.
        left = time_left(run.model_copy(update={"status": status}), self.clock())
        return soonest(wait, recorded, decision.look_again, self._next_look(seen, decision), left)

    async def _apply(
        self,
        manifest: Manifest,
        run: TrainingRun,
        plan: Plan,
        seen: ObservedAttempts,
        decision: Decision,
        jobs: dict[str, str],
    ) -> Refusal | None:
        """Applies a decision, up to what the cluster does not take. `jobs` gets the uid of what is created, by step."""
        owner = Owner.of(manifest)
        # What only tells of a verdict holds nothing back: it comes last.
        needed = [wanted for wanted in decision.create if wanted.step != PUBLISH]
        beside = [wanted for wanted in decision.create if wanted.step == PUBLISH]
        promote = decision.promote
        try:
            for unwanted in decision.delete:
                await self.attempts.stop(unwanted.step, unwanted.number, seen)
            await self.attempts.withdraw(decision.status, seen)
            if needed:
                check_place(run, plan)
            for wanted in needed:
                jobs[wanted.step] = await self.attempts.start(wanted, plan, owner)
            if _is_judgement_recorded(run, decision):
                await self.verdicts.keep(plan, decision.status, at_work=self.plans.has_read(plan.run.uid))
                if promote is not None:
                    await self.promotion.tell(promote, run, plan)
                    promote = None
            for wanted in beside:
                jobs[wanted.step] = await self.attempts.start(wanted, plan, owner)
        except (QuotaExceeded, Forbidden, Invalid, ManifestError, TakenError, SigningKeyError) as error:
            lacking = tuple(wanted for wanted in decision.create if wanted.step not in jobs)
            return Refusal(refusal.reason(error), str(error), lacking, promote)
        return None

    def _beyond(self, run: TrainingRun) -> Blocker | None:
        """Returns why a run cannot be decided upon: not all is known of its namespace, or nothing of its endpoint."""
        namespace, serving = run.metadata.namespace or "", run.spec.serving
        if serving is not None and self.world.aside(MODEL_ENDPOINT, namespace, serving.endpoint) is not None:
            message = f"its endpoint {serving.endpoint} has the condition TooMany; this run goes on once it has not"
            return Blocker(TOO_MANY, "EndpointTooMany", message)
        return self.too_many.overfull(namespace)

    def _endpoint(self, plan: Plan) -> EndpointView | None:
        if plan.serving is None:
            return None
        manifest = self.world.get(MODEL_ENDPOINT, plan.run.namespace, plan.serving.endpoint)
        return observe.endpoint_view(manifest)

    def _unplanned(self, run: TrainingRun, blocker: Blocker) -> RunStatus:
        was = run.status or RunStatus()
        own = conditions.put(
            was.conditions,
            blocker.type,
            "False",
            blocker.reason,
            blocker.message,
            self.clock(),
            run.metadata.generation,
        )
        return was.model_copy(update={"conditions": own, "observed_generation": run.metadata.generation})

    async def _write(self, manifest: Manifest, run: TrainingRun, status: RunStatus) -> timedelta | None:
        """Writes the status when it changed. Returns how long a change that may wait has to.

        Raises StatusInvalidError: the same is decided again, from what the world still shows.
        """
        uid, was = run.metadata.uid or "", run.status or RunStatus()
        wait = self.writes.wait(uid, was, status)
        if wait is None:
            return None
        if wait > 0:
            return timedelta(seconds=wait)
        await write_status(self.cluster, self.world, manifest, was, status, self.clock())
        self.writes.written(uid)
        return None

    async def _warn(self, manifest: Manifest, run: TrainingRun, blocker: Blocker) -> None:
        """Tells of what keeps a run from going on that the lifecycle does not know, once it is in the status."""
        for event in conditions.warnings((run.status or RunStatus()).conditions, [blocker]):
            await self.cluster.record(manifest, event)

    def _refused(self, run: TrainingRun, reason: str) -> timedelta:
        """Returns when to try again what the API server did not take, unless an event says so before."""
        metadata = run.metadata
        created, generation = metadata.creation_timestamp or "", metadata.generation or 0
        return self.world.waiting.refused(_key(run), reason, created=created, generation=generation)

    def _forget(self, namespace: str, name: str) -> None:
        """Lets go of a run that is gone; one of the same name may be there already."""
        self.world.waiting.leave(Key("TrainingRun", namespace, name))
        uid = self._uids.pop((namespace, name), "")
        self.attempts.forget(uid)
        self.plans.forget(uid)
        self.writes.forget(uid)

    def _next_look(self, seen: ObservedAttempts, decision: Decision) -> timedelta | None:
        under_way = [a for own in seen.attempts.values() for a in own if a.state != "Ended"]
        if any(attempt.state == "Running" for attempt in under_way):
            return timedelta(seconds=self.settings.progress_seconds)
        if seen.queued is not None:
            waited = self.clock() - min(attempt.started_at for attempt in under_way)
            return min(max(_STARTING, waited / 4), _QUEUED)
        if under_way or decision.create:
            return _STARTING
        return None

    def _measure(self, was: RunStatus, status: RunStatus) -> None:
        for step in status.stages:
            before = was.step(step.name)
            just_done = step.state is StepState.SUCCEEDED and (before is None or before.state is not step.state)
            if just_done and step.started_at and step.finished_at:
                took = parse_timestamp(step.finished_at) - parse_timestamp(step.started_at)
                kind = step.name if step.name in FIXED_STEPS else "train"
                self.metrics.stage_finished(kind, took.total_seconds())
        evaluation, earlier = status.evaluation, was.evaluation
        if evaluation is not None and (earlier is None or earlier.number != evaluation.number):
            self.metrics.verdict(evaluation.verdict.value)


def _key(run: TrainingRun) -> Key:
    return Key("TrainingRun", run.metadata.namespace or "", run.name)


def _is_judgement_recorded(run: TrainingRun, decision: Decision) -> bool:
    """Whether the status already has the judgement of a decision. An endpoint starts a model by what a status says of
    it, since nobody else writes that: so the status is written first, and the endpoint told in the pass after it."""
    was = run.status or RunStatus()
    return (was.evaluation, was.artifact) == (decision.status.evaluation, decision.status.artifact)
