"""Attempts of a run's steps as Jobs of the cluster: observed, started and stopped. The twin of the local one."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from slipway_core import plan as plans
from slipway_core.lifecycle.decision import CreateAttempt
from slipway_core.lifecycle.observed import Attempt, HalfPlaced
from slipway_core.plan import Plan
from slipway_core.protocol.commands import Baseline
from slipway_core.resources.conditions import Blocker, parse_timestamp
from slipway_core.resources.status import Progress, RunStatus, StepState, StepStatus
from slipway_operator import names
from slipway_operator.cache.world import World, uid_of
from slipway_operator.common import blockers, failure_class
from slipway_operator.common.owned_objects import check_owner, holds
from slipway_operator.common.warning_events import WarningEvents
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists, ClusterError, Conflict
from slipway_operator.kube.kinds import CLAIM, JOB, POD, SERVICE, TRAINING_RUN
from slipway_operator.kube.manifest import Manifest, at, labels
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.owner import Owner
from slipway_operator.manifests.run import same_work
from slipway_operator.manifests.run.place_mark import place_mark
from slipway_operator.manifests.run.rendezvous_service import rendezvous_service
from slipway_operator.manifests.run.step_job import step_job
from slipway_operator.manifests.run.workspace_claim import workspace_claim
from slipway_operator.runs import observe, own_objects
from slipway_operator.runs.half_placed import Age, half_placed, has_elder
from slipway_operator.runs.observe import AttemptKey, AttemptObjects
from slipway_operator.runs.queue_admission import QueueAdmission
from slipway_operator.settings import Settings

_log = logging.getLogger(__name__)

_PULL = timedelta(seconds=2)
"""Between two looks at the progress of one attempt, however often something else wakes its run."""
_LONGEST_PULL = timedelta(seconds=30)
"""Between two of a pod that says nothing: each may take its second, and a thousand of them would hold up all passes."""
_PATIENCE = timedelta(seconds=8)
"""A pod that is not there or not running after this time has its Events read, which alone say why."""
_CLAIM_ABSENT, _CLAIM_ALONE, _CLAIM_SHARED = timedelta(minutes=1), timedelta(minutes=10), timedelta(days=1)
"""Between two reads of a claim that is not there, that one node can mount, that several can. Its modes never change."""
_KEPT_ENDED = 3
"""Attempts of a step that have ended and whose Jobs stay, for their logs. On spot nodes there may be hundreds."""
_STARTS = 4
"""Silences that are no news: a trainer takes its time to import and to load before it says anything."""


class TellsProgress(Protocol):
    async def progress(self, pod: Manifest) -> Progress | None: ...


@dataclass(frozen=True)
class ObservedAttempts:
    """What a look at a run's Jobs and pods found."""

    attempts: dict[str, tuple[Attempt, ...]]
    objects: dict[AttemptKey, AttemptObjects]
    queued: Blocker | None
    blockers: tuple[Blocker, ...]


@dataclass
class _Memory:
    """What is remembered of the attempts of a run that is under way."""

    progress: dict[AttemptKey, Progress] = field(default_factory=dict[AttemptKey, Progress])
    next_pull: dict[AttemptKey, datetime] = field(default_factory=dict[AttemptKey, datetime])
    silences: Counter[AttemptKey] = field(default_factory=Counter[AttemptKey])
    """How often in a row a pod said nothing."""
    ran: set[AttemptKey] = field(default_factory=set[AttemptKey])
    """Attempts that had a process: a queue that suspends one of them evicts it. Forgotten with the process, an evicted
    attempt is one that waits, and goes on under its own number once it is admitted again."""
    half_placed: dict[AttemptKey, HalfPlaced] = field(default_factory=dict[AttemptKey, HalfPlaced])
    """Attempts of which some pods had a place and others none when their pods were looked at last. Forgotten with the
    process, the end of one that waited for its peers is an interruption that made no progress."""
    does_our_work: dict[str, bool] = field(default_factory=dict[str, bool])
    """Of Jobs that no record has: whether they do what the attempt of their name would, by their uid."""


@dataclass
class Attempts:
    cluster: Cluster
    world: World
    settings: Settings
    pods: TellsProgress
    clock: Callable[[], datetime]
    _memories: dict[str, _Memory] = field(default_factory=dict[str, "_Memory"])
    """By the uid of a run."""
    _claims: dict[tuple[str, str], tuple[Manifest | None, datetime]] = field(
        default_factory=dict[tuple[str, str], "tuple[Manifest | None, datetime]"]
    )
    """Claims that no watch tells of, by namespace and name, and when each is read again."""
    warnings: WarningEvents = field(init=False)
    queues: QueueAdmission = field(init=False)

    def __post_init__(self) -> None:
        self.warnings = WarningEvents(self.cluster, self.clock)
        self.queues = QueueAdmission(self.cluster, self.clock)

    async def observe(
        self, plan: Plan, owner: Owner, status: RunStatus, baselines: Mapping[str, Baseline]
    ) -> ObservedAttempts:
        """Looks at the run's attempts.

        Args:
            plan: of the run.
            owner: the run.
            status: the record, which has the Jobs of its attempts.
            baselines: what an evaluation may compare with, by its text.

        Raises ClusterError when a Job that no record has cannot be read. What only says why is no reason to raise.
        """
        namespace, uid = plan.run.namespace, plan.run.uid
        records = [status.step(step) or StepStatus(name=step, state=StepState.PENDING) for step in plan.steps]
        jobs = await self._own_jobs(plan, owner, records, baselines)
        pods = own_objects.pods_of(self.world.of_run(POD, namespace, uid), plan.run.name, jobs, records)
        objects = observe.group(jobs, pods)
        await asyncio.gather(*(self._pull(uid, one) for one in objects.values() if not one.quiet))
        memory = self._memories.setdefault(uid, _Memory()) if objects else _Memory()
        found: dict[str, list[Attempt]] = {}
        current: list[AttemptObjects] = []
        for key in sorted(objects, key=lambda key: key.number):
            one = objects[key]
            attempt = observe.attempt(
                one,
                claim=plan.claim,
                progress=memory.progress.get(key),
                evicted=key in memory.ran,
                now=self.clock(),
                half_placed=self._half_placed(plan, one, memory),
                place=place_mark(plan, key.step),
            )
            if attempt is not None:
                found.setdefault(key.step, []).append(attempt)
                current += [] if attempt.state == "Ended" else [one]
        queued = None
        hindrances: list[Blocker] = []
        for one in current:
            if one.suspended and one.job is not None:
                queued = queued or await self.queues.why(one.job)
            else:
                hindrances += await self._blockers(one)
        if plan.compute.nodes > 1:
            hindrances += blockers.shared_workspace(await self._claim(namespace, plan.claim), plan.compute.nodes)
        return ObservedAttempts({step: tuple(own) for step, own in found.items()}, objects, queued, tuple(hindrances))

    async def start(self, wanted: CreateAttempt, plan: Plan, owner: Owner) -> str:
        """Creates the Job of an attempt, and what it needs. One that exists already and does the same is adopted; one
        that claims to be of this run and does something else is deleted, since no record has it.

        Returns the Job's uid: the record is to have it. Raises TakenError when a Job or Service of that name is
        somebody else's, Conflict when it is going, when an earlier attempt still has a process or has ended otherwise
        than was known, and ClusterError.
        """
        namespace = plan.run.namespace
        await self._ensure_no_other(plan, wanted)
        known = self.world.of_run(POD, namespace, owner.uid)
        if wanted.number > 1 or any(labels(pod).get(names.STEP) == wanted.step for pod in known):
            await self._ensure_quiet(plan, wanted)
        await self._ensure_claim(plan)
        if plan.compute.nodes > 1 and any(stage.name == wanted.step for stage in plan.stages):
            await self._ensure_service(rendezvous_service(plan, owner, wanted.step))
        job = step_job(
            plan,
            owner,
            wanted.step,
            wanted.number,
            settings=self.settings,
            claim=plan.claim,
            baseline=wanted.baseline,
            inputs=wanted.inputs,
        )
        try:
            there = await self.cluster.create(job)
        except AlreadyExists:
            there = await self.cluster.get(JOB, namespace, job["metadata"]["name"])
            if there is None or "deletionTimestamp" in there["metadata"]:
                raise Conflict(f"Job {job['metadata']['name']} is just going") from None
            check_owner(there, job)
            other = same_work.difference(there, job)
            if other is not None and not self._does_our_work(there, plan, owner, wanted.baseline):
                await self._delete(AttemptObjects(AttemptKey(wanted.step, wanted.number), there, ()))
                raise Conflict(
                    f"the Job {job['metadata']['name']} is not the one of this attempt: its {other} differs; it was "
                    "deleted, and is made anew"
                ) from None
        self.world.put(there)
        await self._let_go_of_old(plan, wanted)
        return str(there["metadata"]["uid"])

    async def stop(self, step: str, number: int, seen: ObservedAttempts) -> None:
        """Ends an attempt with its grace period, in which it writes a checkpoint. Asking twice asks once."""
        one = seen.objects.get(AttemptKey(step, number))
        if one is not None and not one.being_deleted:
            await self._delete(one)

    async def withdraw(self, status: RunStatus, seen: ObservedAttempts) -> None:
        """Deletes the Jobs that a queue holds back and no step waits for: it would admit them again some day, beside a
        successor or after the end of the run.

        Raises Conflict when a queue has just admitted one of them again, and ClusterError.
        """
        for key, one in seen.objects.items():
            record = status.step(key.step)
            awaited = record is not None and record.state is StepState.RUNNING and record.attempt == key.number
            if one.suspended and not one.being_deleted and not awaited:
                await self._delete(one, as_seen=True)

    def forget(self, uid: str) -> None:
        self._memories.pop(uid, None)

    async def _own_jobs(
        self, plan: Plan, owner: Owner, records: Iterable[StepStatus], baselines: Mapping[str, Baseline]
    ) -> list[Manifest]:
        """Returns the Jobs of the run's attempts: those that its record has, those of older attempts, which nobody
        reads any more, and what was made after the record was written last and does an attempt's work."""
        run = plan.run
        jobs = own_objects.claimed(self.world.of_run(JOB, run.namespace, run.uid), run.name, run.uid)
        found: list[Manifest] = []
        for record in records:
            numbered: dict[int, list[Manifest]] = {}
            for job in jobs:
                if labels(job)[names.STEP] == record.name:
                    numbered.setdefault(int(labels(job)[names.ATTEMPT]), []).append(job)
            for number in sorted(numbered):
                older = number < record.attempt
                found += [job for job in numbered[number] if older or own_objects.is_recorded(job, record)][:1]
            number = plan.next_attempt(record.attempt)
            while (job := await self._that_works(plan, owner, numbered.get(number, []), baselines)) is not None:
                found.append(job)
                number += 1
        return found

    async def _that_works(
        self, plan: Plan, owner: Owner, jobs: Sequence[Manifest], baselines: Mapping[str, Baseline]
    ) -> Manifest | None:
        """Returns the Job among those of one attempt that does its work: somebody died before it was recorded."""
        if not jobs:
            return None
        known = self._memories.setdefault(plan.run.uid, _Memory()).does_our_work
        for job in jobs:
            metadata = job["metadata"]
            if metadata["uid"] not in known:
                # The cache keeps no template.
                whole = await self.cluster.get(JOB, metadata["namespace"], metadata["name"])
                if whole is None or whole["metadata"]["uid"] != metadata["uid"]:
                    continue
                known[metadata["uid"]] = self._does_our_work(
                    whole, plan, owner, own_objects.baseline_of(job, baselines)
                )
            if known[metadata["uid"]]:
                return job
        return None

    async def _ensure_no_other(self, plan: Plan, wanted: CreateAttempt) -> None:
        """Raises Conflict when a Job of this attempt has the name that another release gave it, and other work to do:
        no record has it. It is deleted, and its pods may be at work until they end."""
        run, own = plan.run, names.step_labels(plan.run.name, plan.run.uid, wanted.step, wanted.number)
        for job in own_objects.claimed(self.world.of_run(JOB, run.namespace, run.uid), run.name, run.uid):
            name, uid = job["metadata"]["name"], job["metadata"]["uid"]
            if own.items() <= labels(job).items() and name != names.job(run.name, wanted.step, wanted.number):
                self._memories.setdefault(run.uid, _Memory()).does_our_work.pop(uid, None)
                await self._delete(AttemptObjects(AttemptKey(wanted.step, wanted.number), job, ()))
                raise Conflict(f"the Job {name} is of another release and does other work; it is deleted first")

    def _does_our_work(self, whole: Manifest, plan: Plan, owner: Owner, baseline: Baseline | None) -> bool:
        """Returns whether a Job is what the attempt of its labels would be, over as many processes as it was made with:
        compute may have been edited since, and an attempt goes on as it was made."""
        step, number = labels(whole)[names.STEP], int(labels(whole)[names.ATTEMPT])
        as_made = plans.placed(plan, same_work.layout(whole, plan.compute))
        try:
            # By its own name: its pods find each other by that.
            wanted = step_job(
                as_made,
                owner,
                step,
                number,
                settings=self.settings,
                claim=plan.claim,
                baseline=baseline,
                name=whole["metadata"]["name"],
            )
        except ManifestError:
            return False  # The chart has its pod template no more; it is made anew once it has.
        return same_work.difference(whole, wanted) is None

    async def _ensure_quiet(self, plan: Plan, wanted: CreateAttempt) -> None:
        """Raises Conflict when an earlier attempt has a process after all, or has ended in a way that nobody knew of:
        the cache may know less of pods than of Jobs, no two attempts run at once, and none is made again that is done.
        """
        run = plan.run
        selector = f"{names.RUN_UID}={run.uid},{names.STEP}={wanted.step}"
        known = (self._memories.get(run.uid) or _Memory()).does_our_work
        strangers = {uid for uid, ours in known.items() if not ours}
        news = alive = None
        async for page, _ in self.cluster.pages(POD, run.namespace, selector):
            for pod in page:
                if own_objects.may_write(pod, run.name, strangers):
                    name = pod["metadata"]["name"]
                    news = name if self.world.put(pod) else news
                    alive = alive if failure_class.has_ended(pod) else name
        if alive:
            raise Conflict(f"the pod {alive} of an earlier attempt has not ended yet")
        if news:
            raise Conflict(f"how the pod {news} of an earlier attempt ended was not known")

    async def _ensure_service(self, service: Manifest) -> None:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        there = self.world.get(SERVICE, namespace, name)
        if there is None:
            try:
                there = await self.cluster.create(service)
            except AlreadyExists:
                there = await self.cluster.get(SERVICE, namespace, name)
                if there is None:
                    raise Conflict(f"Service {name} is just going") from None
        check_owner(there, service)
        self.world.put(there if holds(there, service) else await self.cluster.apply(service))

    async def _let_go_of_old(self, plan: Plan, wanted: CreateAttempt) -> None:
        """Deletes Jobs whose pods nobody reads any more. How they ended was entered into the record long ago."""
        run = plan.run
        own = own_objects.claimed(self.world.of_run(JOB, run.namespace, run.uid), run.name, run.uid)
        jobs = observe.group(own, ())
        for key, one in jobs.items():
            old = key.step == wanted.step and key.number < wanted.number - _KEPT_ENDED
            if old and not one.being_deleted:
                await self._delete(one)

    async def _delete(self, one: AttemptObjects, *, as_seen: bool = False) -> None:
        if one.job is None:
            return
        metadata = one.job["metadata"]
        version = metadata["resourceVersion"] if as_seen else None
        await self.cluster.delete(
            JOB, metadata["namespace"], metadata["name"], uid=metadata["uid"], resource_version=version
        )

    async def _ensure_claim(self, plan: Plan) -> None:
        if plan.storage is not None or self.world.get(CLAIM, plan.run.namespace, names.WORKSPACE_CLAIM) is not None:
            return
        claim = workspace_claim(plan.run.namespace, self.settings)
        try:
            self.world.put(await self.cluster.create(claim))
        except AlreadyExists:
            there = await self.cluster.get(CLAIM, plan.run.namespace, names.WORKSPACE_CLAIM)
            if there is not None:
                self.world.put(there)

    async def _claim(self, namespace: str, name: str) -> Manifest | None:
        """Returns a claim. No watch tells of one that a user brings: it is read, seldom once it fits."""
        if (watched := self.world.get(CLAIM, namespace, name)) is not None:
            return watched
        claim, again = self._claims.get((namespace, name), (None, None))
        if again is None or self.clock() >= again:
            try:
                claim = _modes(await self.cluster.get(CLAIM, namespace, name))
            except ClusterError as error:
                _log.warning("whether several nodes can share the claim %s/%s is not known: %s", namespace, name, error)
                claim = None
            if claim is None:
                wait = _CLAIM_ABSENT
            else:
                wait = _CLAIM_SHARED if not blockers.shared_workspace(claim, 2) else _CLAIM_ALONE
            due = {known: entry for known, entry in self._claims.items() if entry[1] > self.clock()}
            self._claims = {**due, (namespace, name): (claim, self.clock() + wait)}
        return claim

    def _half_placed(self, plan: Plan, one: AttemptObjects, memory: _Memory) -> HalfPlaced | None:
        """Returns whether some pods of an attempt wait for places, or waited for them until it ended."""
        if one.quiet and one.pods:
            return memory.half_placed.get(one.key)
        found = half_placed(one.job, one.pods)
        if found is not None:
            run = self.world.get(TRAINING_RUN, plan.run.namespace, plan.run.name)
            found = replace(found, elder=has_elder(_age(run), self._others(plan.run.uid)))
            memory.half_placed[one.key] = found
        elif not one.being_deleted and one.finished is None and len(one.pods) >= plan.compute.nodes:
            memory.half_placed.pop(one.key, None)
        return found

    def _others(self, uid: str) -> Iterator[tuple[Age, Manifest, list[Manifest]]]:
        """Yields the Jobs with several pods that other runs have. Looked at for a run that waits for places alone."""
        for job in self.world.all(JOB):
            owner = own_objects.controller(job)
            if (
                at(job, "spec").get("completions", 1) < 2
                or owner.get("uid") == uid
                or "deletionTimestamp" in job["metadata"]
            ):
                continue
            namespace, metadata = job["metadata"]["namespace"], job["metadata"]
            run = self.world.get(TRAINING_RUN, namespace, str(owner.get("name", "")))
            if run is None or uid_of(run) != owner.get("uid"):
                continue
            pods = self.world.of_run(POD, namespace, uid_of(run))
            yield _age(run), job, [pod for pod in pods if own_objects.controller(pod).get("uid") == metadata["uid"]]

    async def _pull(self, uid: str, one: AttemptObjects) -> None:
        pod = one.first_pod
        if pod is None or not observe.is_running(pod):
            return
        memory = self._memories.setdefault(uid, _Memory())
        memory.ran.add(one.key)
        now, due = self.clock(), memory.next_pull.get(one.key)
        if due is not None and now < due:
            return
        progress = await self.pods.progress(pod)
        if progress is not None:
            memory.progress[one.key] = progress
        silences = memory.silences[one.key] = 0 if progress is not None else memory.silences[one.key] + 1
        memory.next_pull[one.key] = now + min(_PULL * 2 ** min(max(0, silences - _STARTS), 10), _LONGEST_PULL)

    async def _blockers(self, one: AttemptObjects) -> tuple[Blocker, ...]:
        now = self.clock()
        found = blockers.of_pods(one.pods, now, node_lost_after=self.settings.node_lost_seconds)
        if found or observe.is_running(one.first_pod) or one.being_deleted:
            return found
        silent: Manifest | None = one.first_pod or one.job
        if silent is None or now - parse_timestamp(silent["metadata"]["creationTimestamp"]) < _PATIENCE:
            return ()
        return await self.warnings.blockers(silent)


def _age(run: Manifest | None) -> Age:
    metadata = at(run, "metadata")
    return Age(str(metadata.get("creationTimestamp", "")), str(metadata.get("uid", "")))


def _modes(claim: Manifest | None) -> Manifest | None:
    """Returns what is read of a claim: a user's may have anything in its annotations."""
    if claim is None:
        return None
    return {
        "metadata": {"name": claim["metadata"]["name"]},
        "spec": {"accessModes": at(claim, "spec").get("accessModes")},
    }
