"""What a finished run leaves, and when it goes.

A run's plan ConfigMap has no owner: it is the record of what lies in the workspace. Where its run is gone, whoever
deleted it, the record is marked with the time; after the grace of the settings a cleanup Job removes the folder, and
then the record goes. An artifact that an endpoint names, or that a run starts from which may go on, stays with its
record until nobody names it, and for the grace after that. So nothing here needs a finalizer, an operator that was away
misses nothing, and a deletion that nobody meant costs nothing where it is noticed in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway_core import plan as plans
from slipway_core.lifecycle.annotations import REMOVE_ANNOTATION
from slipway_core.lifecycle.publication import is_under_way
from slipway_core.plan import Plan
from slipway_core.resources import conditions
from slipway_core.resources.api import seconds
from slipway_core.resources.conditions import parse_timestamp, timestamp
from slipway_core.resources.training_run import TrainingRun
from slipway_operator import names
from slipway_operator.cache.key import Key
from slipway_operator.cache.world import World
from slipway_operator.common import failure_class
from slipway_operator.common.next_look import soonest
from slipway_operator.common.owned_objects import has_owner_of
from slipway_operator.common.verdict_reader import VerdictReader
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists, Conflict, Forbidden, Invalid
from slipway_operator.kube.kinds import CLAIM, CONFIG_MAP, JOB, MODEL_ENDPOINT, OWN, POD, TRAINING_RUN
from slipway_operator.kube.manifest import Manifest, Version, at, condition, job_end, labels, notes, version
from slipway_operator.manifests.owner import Owner
from slipway_operator.manifests.run import same_work
from slipway_operator.manifests.run.cleanup_job import cleanup_job
from slipway_operator.manifests.run.plan_config_map import PLAN_KEY
from slipway_operator.manifests.run.verdict_config_map import RUN_UID_KEY
from slipway_operator.runs import config_maps, repeated_cleanups
from slipway_operator.runs import orphan as orphans
from slipway_operator.runs.keepers import Keepers, folders_of, is_nowhere, is_unplanned
from slipway_operator.runs.orphan import Orphan
from slipway_operator.runs.repeated_cleanups import RepeatedCleanups
from slipway_operator.runs.verdict_records import served_digests
from slipway_operator.settings import Settings

_AGAIN = timedelta(seconds=30)
_IN_LINE = timedelta(minutes=1)
"""Until one looks again whether it has its turn, which the end of another cleanup Job tells."""
_STARTING = timedelta(minutes=2)
"""A cleanup Job that has no pod at work after this time has found no place."""
_KEPT = 20_000
"""Records of which it is remembered what they say."""
_PATIENCE = timedelta(minutes=10)
"""A cleanup Job that has not ended after this time may wait for a claim that is gone."""


def time_left(run: TrainingRun, now: datetime) -> timedelta | None:
    """Returns how long a run is still kept; None for a run that is not finished, that is still published, or that is
    kept for ever."""
    ttl, status = run.spec.retention.ttl_after_finished, run.status
    if ttl is None or status is None or not status.phase.finished or is_under_way(status):
        return None
    progressing = conditions.find(status.conditions, "Progressing")
    if progressing is None or progressing.status != "False":
        return None
    return parse_timestamp(progressing.last_transition_time) + timedelta(seconds=seconds(ttl)) - now


@dataclass
class Retention:
    cluster: Cluster
    world: World
    settings: Settings
    clock: Callable[[], datetime]
    records: VerdictReader
    deciding: asyncio.Lock
    """Of `Adoption`: no folder is removed that a run is about to go on in."""
    _known: dict[str, tuple[Version, Orphan]] = field(default_factory=dict[str, tuple[Version, Orphan]])
    """What records said that were read, by the uid of their run: the cache has their metadata alone."""
    repeated: RepeatedCleanups = field(default_factory=RepeatedCleanups)

    async def reconcile(self, namespace: str, run: str | None = None, *, uid: str | None = None) -> timedelta | None:
        """Looks after what deleted runs left in a namespace: all of them, those of one name, or one of them.

        Returns when to look again. Raises ClusterError: the first one, after what one record is refused for did not
        keep the others waiting.
        """
        if self.world.overfull(namespace):
            return _AGAIN  # Not all is known of what may still be at work, or be needed.
        again, refused, keepers = None, None, None
        for record in self.world.orphans(namespace, uid):
            if run is None or labels(record).get(names.RUN) in (run, names.label(run)):
                keepers = Keepers.of(self.world, namespace) if keepers is None else keepers
                try:
                    again = soonest(again, await self._look_after(namespace, record, keepers))
                except (Forbidden, Invalid, Conflict) as error:
                    refused = refused or error
        if refused is not None:
            raise refused
        return again

    async def is_back(self, run: TrainingRun) -> None:
        """Takes the marks from the record of a run that there is after all. Raises ClusterError."""
        uid, namespace = run.metadata.uid or "", run.metadata.namespace or ""
        self._known.pop(uid, None)
        record = self.world.get(CONFIG_MAP, namespace, names.plan(run.name, uid))
        if record is not None:
            await self._unmark(record, run.name, uid)

    async def _look_after(self, namespace: str, record: Manifest, keepers: Keepers) -> timedelta | None:
        """Goes one step on with one record. Returns when there is another one that no event will tell of."""
        key = Key("Namespace", namespace, labels(record).get(names.RUN_UID, ""))
        again = await self._clean(namespace, record, keepers, key)
        if again is not _IN_LINE:
            self.world.removals.leave(key)
        return again

    async def _clean(self, namespace: str, record: Manifest, keepers: Keepers, key: Key) -> timedelta | None:
        uid = key.name
        under_way = self._under_way(namespace, uid)
        if under_way is not None and self.clock() - _made_at(under_way) < _PATIENCE:
            return None  # Its end is told.
        orphan = await self._orphan(record)
        if orphan is None:
            return None  # Nobody knows what it is about, so nothing is removed.
        if orphan.uri in keepers.living:
            # A name has but the beginning of a uid, and a run goes on where an earlier one of its name was.
            await self._give_up(record, orphan)
            return None
        if not all(failure_class.has_ended(pod) for pod in self.world.of_run(POD, namespace, uid) if _of_step(pod)):
            return _AGAIN
        if under_way is None and keepers.may_be_adopted(orphan):
            return _AGAIN
        served, based = keepers.serving(orphan), keepers.starting(orphan)
        kept_by = [*served, *based]
        there = self._cleanup_job(orphan, keep=bool(kept_by))
        done = bool(kept_by) and condition(there, "Complete") is not None
        marked = await self._mark(record, orphan, kept_by, silently=done)
        if marked is None:
            return _AGAIN  # The run is back, and the cache has not heard of it.
        if done:
            return None if served else _AGAIN  # What becomes of an endpoint is told, and of a run only that it is gone.
        if under_way is None and (left := orphans.time_left(marked, self.clock(), self._grace)) > timedelta(0):
            return min(left, _AGAIN) if based else left
        return await self._remove(marked, orphan, keep=bool(kept_by), under_way=under_way is not None, key=key)

    @property
    def _grace(self) -> timedelta:
        return timedelta(seconds=seconds(self.settings.retention.grace))

    async def _orphan(self, record: Manifest) -> Orphan | None:
        """Returns what a record says, read once for each of its versions; None where it is not the operator's."""
        uid = labels(record).get(names.RUN_UID, "")
        known = self._known.get(uid)
        if known is not None and known[0] == version(record):
            return known[1]
        plan = await self._plan(record)
        if plan is None:
            return None
        self._known[uid] = version(record), Orphan.of(plan)
        while len(self._known) > _KEPT:
            self._known.pop(next(iter(self._known)))
        return self._known[uid][1]

    async def _plan(self, record: Manifest) -> Plan | None:
        namespace, uid = record["metadata"]["namespace"], labels(record).get(names.RUN_UID, "")
        there = await self.cluster.get(CONFIG_MAP, namespace, _name(record))
        if there is None or there["metadata"]["uid"] != record["metadata"]["uid"]:
            return None
        try:
            plan = _without_data(plans.load(str(at(there, "data").get(PLAN_KEY, ""))))
        except ValueError:
            return None
        # Otherwise it is about another run, in another namespace perhaps.
        named = (plan.run.namespace, names.plan(plan.run.name, uid), plan.run.uid)
        return plan if named == (namespace, _name(record), uid) else None

    async def _give_up(self, record: Manifest, orphan: Orphan) -> None:
        """Lets go of the record of a folder that a living run uses by its own: what it left is that run's now."""
        namespace = orphan.namespace
        for run in self.world.all(TRAINING_RUN, namespace):
            name, uid = run["metadata"]["name"], run["metadata"]["uid"]
            own = names.plan(name, uid)
            pinned = at(run, "status").get("folder") == orphan.folder and at(run, "status").get("planDigest")
            if pinned and uid != orphan.uid and own != _name(record) and self.world.get(CONFIG_MAP, namespace, own):
                await config_maps.delete(self.cluster, record)
                self.world.remove(record)
                return
        await self._unmark(record, orphan.name)

    async def _unmark(self, record: Manifest, run: str, uid: str | None = None) -> None:
        """Takes the marks from a record whose folder a run uses, and the wish to have it removed at once: it was meant
        for what is gone, and a deletion that nobody means has its grace.

        `slipway rm --now` deletes the run before it writes that wish, so the API server is asked whether it has.
        """
        wanted: dict[str, str | None] = dict(orphans.UNMARKED) if names.ORPHANED_AT in notes(record) else {}
        if orphans.is_wanted_gone(record):
            there = await self.cluster.get(TRAINING_RUN, record["metadata"]["namespace"], run)
            metadata = at(there, "metadata")
            if metadata and "deletionTimestamp" not in metadata and uid in (None, metadata.get("uid")):
                wanted[REMOVE_ANNOTATION] = None
        if wanted:
            await self._annotate(record, wanted)

    async def _mark(
        self, record: Manifest, orphan: Orphan, keepers: list[str], *, silently: bool = False
    ) -> Manifest | None:
        """Notes since when nothing keeps what is to go next, and who keeps the model. Returns the record; None where
        the API server has the run after all."""
        if self._grace <= timedelta(0):
            return record
        now = self.clock()
        first = orphans.marked_at(record, now) is None
        if first and await self._has_run(orphan):
            return None
        wanted = orphans.marks(record, orphan, keepers, now)
        began = notes(record).get(names.ORPHANED_AT) != wanted[names.ORPHANED_AT]
        marked = await self._annotate(record, wanted)
        if began and not silently and not orphans.is_wanted_gone(marked):
            await self.cluster.record(marked, orphans.told(orphan, keepers, self._grace))
        return marked

    async def _annotate(self, record: Manifest, wanted: dict[str, str | None]) -> Manifest:
        """Returns the record with these annotations, as the cache has it. Raises ClusterError."""
        if orphans.changed(record, wanted) is None:
            return record
        namespace, name = record["metadata"]["namespace"], _name(record)
        whole = await self.cluster.get(CONFIG_MAP, namespace, name)
        if whole is None or whole["metadata"]["uid"] != record["metadata"]["uid"]:
            raise Conflict(f"the ConfigMap {name} is another one by now")
        if (news := orphans.changed(whole, wanted)) is not None:
            whole = await self.cluster.replace(news)
        self.world.put(whole)
        uid = labels(record).get(names.RUN_UID, "")
        if (known := self._known.get(uid)) is not None:
            self._known[uid] = version(whole), known[1]
        return self.world.get(CONFIG_MAP, namespace, name) or record

    async def _remove(
        self, record: Manifest, orphan: Orphan, *, keep: bool, under_way: bool, key: Key
    ) -> timedelta | None:
        """Has a Job remove what is due, and lets go of the record once all of it is gone."""
        namespace = orphan.namespace
        if await self._has_run(orphan):
            return _AGAIN
        if await self.cluster.get(CLAIM, namespace, orphan.claim) is None:
            # The folder went with its claim, and a pod that mounts it would wait for ever.
            await self._drop(namespace, record)
            return None
        if under_way:
            return None
        plan = await self._plan(record)
        if plan is None:
            return None
        job = cleanup_job(plan, Owner.of(record), settings=self.settings, claim=orphan.claim, keep_artifact=keep)
        there = self._cleanup_job(orphan, keep=keep)
        if there is None:
            return await self._begin(record, job, orphan, key, keep=keep)
        if condition(there, "Failed"):
            await self.cluster.delete(JOB, namespace, there["metadata"]["name"], uid=there["metadata"]["uid"])
            return _AGAIN
        if condition(there, "Complete"):
            if (difference := await self._difference(there, job)) is not None:
                # Somebody's Job of that name, or one that another release made: what it did nobody knows.
                if not self.repeated.may_repeat(record["metadata"]["uid"], there["metadata"]["uid"], self.clock()):
                    name = there["metadata"]["name"]
                    await self.cluster.record(record, repeated_cleanups.told(name, plan.run.name, difference))
                    return None  # The next list of everything has it looked at again.
                await self.cluster.delete(JOB, namespace, there["metadata"]["name"], uid=there["metadata"]["uid"])
                return _AGAIN
            self.repeated.forget(record["metadata"]["uid"])
            await self._drop(namespace, record)
        return None

    async def _begin(
        self, record: Manifest, job: Manifest, orphan: Orphan, key: Key, *, keep: bool
    ) -> timedelta | None:
        """Makes a cleanup Job, when it has its turn, no run is about to use the folder, and the model is kept as it was
        a moment ago. The record says so first: a Job may be gone by the time at which somebody asks."""
        async with self.deciding:
            if await self._has_run(orphan):
                return _AGAIN
            now = Keepers.of(self.world, orphan.namespace)
            kept = bool(now.serving(orphan) or now.starting(orphan))
            if orphan.uri in now.living or now.may_be_adopted(orphan) or kept is not keep:
                return _AGAIN
            if not self._has_turn(key):
                return _IN_LINE
            if names.REMOVING not in notes(record):
                await self._annotate(record, {names.REMOVING: timestamp(self.clock()), names.FOLDER: orphan.place})
            try:
                self.world.put(await self.cluster.create(job))
            except AlreadyExists:
                return _AGAIN
        return None

    def _has_turn(self, key: Key) -> bool:
        """Whether there is room for another cleanup Job, for which nobody waits longer."""
        for other in self.world.removals.all():
            if not self.world.orphans(other.namespace, other.name):
                self.world.removals.leave(other)
        room = self.settings.retention.cleanup_jobs - sum(1 for job in self.world.cleanups() if self._is_at_work(job))
        return self.world.removals.join(key) < room

    def _is_at_work(self, job: Manifest) -> bool:
        """Whether a cleanup Job takes processors, or is about to. One that finds no place keeps nobody waiting."""
        if job_end(job) is not None:
            return False
        return bool(at(job, "status").get("ready")) or self.clock() - _made_at(job) < _STARTING

    def _cleanup_job(self, orphan: Orphan, *, keep: bool) -> Manifest | None:
        named = names.cleanups(orphan.name, orphan.uid, keep_artifact=keep)
        return next((one for name in named if (one := self.world.get(JOB, orphan.namespace, name)) is not None), None)

    async def _difference(self, there: Manifest, wanted: Manifest) -> str | None:
        """Returns in what a Job is not the record's, or does not do what the operator would have it do; None where it
        is and does. The cache keeps no template.

        Its image does not count: one that a cluster's policies rewrite would never be ours, and be made for ever.
        """
        metadata = there["metadata"]
        whole = await self.cluster.get(JOB, metadata["namespace"], metadata["name"])
        if whole is None or whole["metadata"]["uid"] != metadata["uid"]:
            return "uid"
        return same_work.difference(whole, wanted, but=("image",)) if has_owner_of(there, wanted) else "owner"

    def _under_way(self, namespace: str, uid: str) -> Manifest | None:
        """Returns the cleanup Job of a run that has not ended."""
        jobs = [job for job in self.world.of_run(JOB, namespace, uid) if labels(job).get(names.ROLE) == names.CLEANUP]
        return next((job for job in jobs if job_end(job) is None), None)

    async def _has_run(self, orphan: Orphan) -> bool:
        """Whether the API server has a run that uses the folder, or that may go on in it: the cache may be behind."""
        if self.world.get(TRAINING_RUN, orphan.namespace, orphan.name) is not None:
            return False  # What it has of the run was looked at.
        there = await self.cluster.get(TRAINING_RUN, orphan.namespace, orphan.name)
        return there is not None and (orphan.uri in folders_of(there) or is_unplanned(there) or is_nowhere(there))

    async def _drop(self, namespace: str, record: Manifest) -> None:
        """Removes the record of a run whose files are gone, and before it the verdicts that nobody needs any more.

        The same model may have passed in two runs, and has one verdict.
        """
        runs = self.world.all(TRAINING_RUN, namespace)
        made = {str(at(run, "status", "artifact").get("digest", "")) for run in runs}
        needed = {names.digest_label(digest) for digest in served_digests(self.world, namespace) | made}
        # What was judged for an endpoint stays as long as that one, whatever it serves: it says how often it was tried.
        endpoints = {names.label(one["metadata"]["name"]) for one in self.world.all(MODEL_ENDPOINT, namespace)}
        all_known = not any(self.world.all_aside(kind, namespace) for kind in OWN)
        for found in self.world.records(namespace, "verdict") if all_known else ():
            if labels(found).get(names.DIGEST) not in needed and labels(found).get(names.JUDGED_FOR) not in endpoints:
                run = (await self.records.read(namespace, _name(found))).get(RUN_UID_KEY)
                if run and not self._is_kept(namespace, run, record):
                    await config_maps.delete(self.cluster, found)
        await config_maps.delete(self.cluster, record)

    def _is_kept(self, namespace: str, uid: str, record: Manifest) -> bool:
        """Whether there is a run of this uid, or what it left, but for the record that goes."""
        left = [found for found in self.world.of_run(CONFIG_MAP, namespace, uid) if _name(found) != _name(record)]
        return self.world.has_run(namespace, uid) or any(labels(one).get(names.ROLE) == "plan" for one in left)


def _without_data(plan: Plan) -> Plan:
    """Returns a plan without what makes some large: many are looked at in turns."""
    evaluation = plan.evaluation.model_copy(update={"data": [], "prompts": []})
    return plan.model_copy(update={"stages": [], "evaluation": evaluation})


def _made_at(manifest: Manifest) -> datetime:
    return parse_timestamp(manifest["metadata"]["creationTimestamp"])


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _of_step(pod: Manifest) -> bool:
    return names.STEP in labels(pod)
