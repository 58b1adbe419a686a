"""The plan of a run: resolved once, kept in an immutable ConfigMap, and read from there ever after (invariant E)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from pydantic import ValidationError

from slipway_core import plan as plans
from slipway_core.plan import ExecutorDefaults, Plan, RunIdentity
from slipway_core.protocol.workspace import is_folder_of
from slipway_core.resources import uris
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.training_run import TrainingRun
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common.owned_objects import holds
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists, Conflict
from slipway_operator.kube.kinds import CONFIG_MAP, JOB, POD, TRAINING_RUN
from slipway_operator.kube.manifest import Manifest, Version, at, notes, version
from slipway_operator.manifests.endpoint import access
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.pod import template as pod_template
from slipway_operator.manifests.run.plan_config_map import plan_config_map
from slipway_operator.runs import config_maps
from slipway_operator.runs.adoption import Adoption, folder_of_jobs, newest_attempt, pinned_folder
from slipway_operator.settings import Settings

_KEPT, _KEPT_BYTES = 512, 8 << 20
"""Plans in memory, and the bytes of their JSON: one is most often a few KiB, and may have 1 MiB."""
_NO_FOLDER = (
    "this run went on in the folder of an earlier run of its name, and nothing says any more which one: status.folder "
    "is missing, its record is gone and it has no Jobs. Put its record back from a backup, or delete this run and "
    "create it anew"
)


@dataclass(frozen=True)
class _Kept:
    plan: Plan
    version: Version
    """Of the ConfigMap that was found to hold it: what a pod of the run mounts."""
    size: int


@dataclass(frozen=True)
class _Found:
    """What is left of a plan that is not kept any more: enough to know it when it is made again."""

    version: Version
    fingerprint: bytes


@dataclass
class Plans:
    cluster: Cluster
    world: World
    settings: Settings
    adoption: Adoption
    _read: OrderedDict[str, _Kept] = field(default_factory=OrderedDict[str, _Kept])
    """By the run's uid, the one used last at the end."""
    _found: dict[str, _Found] = field(default_factory=dict[str, _Found])
    """By the run's uid: the record of each plan that this process has read or written."""
    _bytes: int = 0
    """Of the plans in memory. Every pass remembers its plan, so it does not add up those of all others."""

    async def of(self, run: TrainingRun, *, unread: bool = False) -> Plan | Blocker:
        """Returns what runs, or what is in the way of planning it.

        Of a record the cache has the metadata alone. It is read where this process has not seen its content yet: not
        with `unread`, for a run that is over and that only has to be looked at. That plan has the digest of the record,
        and may have another image: nothing is made of it.

        Until status names the plan's digest the spec may still be edited, so that a plan of an older spec is made anew.
        From then on nothing but that plan runs: its ConfigMap comes back when somebody deletes or replaces it, and
        where the same plan cannot be made any more, nothing goes on (invariant E).

        Raises Conflict while something of an older spec is left, or another plan was under the name of this one, and
        ClusterError.
        """
        uid, namespace = run.metadata.uid or "", run.metadata.namespace or ""
        settled = run.status.plan_digest if run.status is not None else None
        stored = await self._stored(run, namespace, uid)
        kept = self._read.get(uid) or self._made_again(run, stored)
        if kept is None and stored is None and (adopted := await self._adopted(run, settled)) is not None:
            return adopted if isinstance(adopted, Blocker) else _with_edits(adopted, run)
        if kept is None and unread and stored is not None and settled is not None and names.FOLDER not in notes(stored):
            fresh = self._resolve_as(run, settled)
            if isinstance(fresh, Plan) and fresh.digest == settled:
                return fresh
        if stored is not None and (kept is None or kept.version != version(stored)):
            stored = await self.cluster.get(CONFIG_MAP, namespace, stored["metadata"]["name"])
        plan = kept.plan if kept is not None else self._trusted(stored, run)
        if plan is not None and settled not in (None, plan.digest):
            plan = None
        if plan is None or settled is None:
            # What a pass of an earlier release made, and could not record, goes on as that made it.
            fresh = self._resolve_as(run, settled or (plan.digest if plan is not None else None))
            if isinstance(fresh, Blocker):
                return fresh if settled is None else _lost(run, stored, fresh.message)
            if settled not in (None, fresh.digest):
                return _lost(run, stored, "this operator's defaults make another one")
            same = plan is not None and plan.digest == fresh.digest
            fresh = plans.in_folder_of(fresh, plan) if plan is not None and same else self._in_its_folder(fresh, run)
            if isinstance(fresh, Blocker):
                return fresh
            edited = settled is None and plan is not None and plan.compute != fresh.compute
            if plan is None or _decides(plan) != _decides(fresh) or edited:
                if settled is None:
                    await self._end_older(namespace, uid, planned=stored is not None)
                plan = fresh
        known = kept is not None and stored is not None and (kept.plan, kept.version) == (plan, version(stored))
        if stored is not None and not (known or _is_record(stored, plan)):
            await config_maps.delete(self.cluster, stored)
            stored = None
        if stored is None:
            stored = await self._keep(plan)
        if kept is None or not known:
            kept = _Kept(plan, version(stored), len(plan.to_json()))
        self._remember(uid, kept)
        return _with_edits(plan, run)

    async def _adopted(self, run: TrainingRun, settled: str | None) -> Plan | Blocker | None:
        """Returns the plan of a run that goes on in the folder of an earlier one of its name, once it is recorded.

        A run that an earlier release planned has the digest of another version of the plan.
        """
        if not self.adoption.is_possible(run):
            return None
        versions = (plans.NEWEST, *plans.OLDER)
        made = [self._resolve_as(run, settled)] if settled else [self._resolve(run, version=one) for one in versions]
        for fresh in made:
            own = fresh if isinstance(fresh, Plan) else None
            digest = settled or (own.digest if own is not None else None)
            if digest is None:
                continue
            async with self.adoption.deciding:
                plan = await self.adoption.adopt(run, own, digest)
                if isinstance(plan, Blocker):
                    return plan
                if plan is None:
                    continue
                stored = await self._keep(plan)
            self._remember(plan.run.uid, _Kept(plan, version(stored), len(plan.to_json())))
            return plan
        return None

    def has_read(self, uid: str) -> bool:
        """Whether the record of a run's plan was read, so that Jobs may be made of it."""
        return uid in self._read

    def forget(self, uid: str) -> None:
        self._let_go(uid)
        self._found.pop(uid, None)

    def _remember(self, uid: str, kept: _Kept) -> None:
        if self._read.get(uid) is kept:
            self._read.move_to_end(uid)
            return
        self._let_go(uid)
        self._read[uid] = kept
        self._bytes += kept.size
        self._found[uid] = _Found(kept.version, _fingerprint(kept.plan))
        while len(self._read) > 1 and (len(self._read) > _KEPT or self._bytes > _KEPT_BYTES):
            self._let_go(next(iter(self._read)))

    def _let_go(self, uid: str) -> None:
        kept = self._read.pop(uid, None)
        if kept is not None:
            self._bytes -= kept.size

    def _made_again(self, run: TrainingRun, stored: Manifest | None) -> _Kept | None:
        """Returns a plan that there was no more room for, where the run still makes the same one and its record is the
        one that was read: that is quicker than to read it again."""
        found = self._found.get(run.metadata.uid or "")
        if found is None or stored is None or found.version != version(stored):
            return None
        fresh = self._resolve_as(run, run.status.plan_digest if run.status is not None else None)
        if isinstance(fresh, Blocker) or _fingerprint(fresh) != found.fingerprint:
            return None
        return _Kept(fresh, found.version, len(fresh.to_json()))

    def _trusted(self, stored: Manifest | None, run: TrainingRun) -> Plan | None:
        """Returns the plan that a ConfigMap holds, unless somebody else than the operator seems to have put it there.

        The digest covers neither where the Jobs would be made, nor which claim and folder they write to, nor their
        image. Namespace and claim are the run's, folder and image are in its status. Of a run that a release planned
        which did not write them there, or whose status lost them, both are those of its Jobs so far.
        """
        plan = _plan_in(stored)
        if plan is None:
            return None
        identity = RunIdentity(name=run.name, namespace=run.metadata.namespace or "", uid=run.metadata.uid or "")
        jobs = self.world.of_run(JOB, identity.namespace, identity.uid)
        known = self.settings.images.train
        used = {notes(job)[names.IMAGE] for job in jobs if names.IMAGE in notes(job)}
        pinned = _pinned(run)
        mine = (
            plan.run == identity
            and plan.storage == run.spec.storage
            and run.spec.compute.accelerator in (None, plan.accelerator)
            and self._is_in_its_folder(plan, run)
            and (plan.images.train == pinned if pinned else not used or plan.images.train in {*used, known})
        )
        return plan if mine else None

    def _is_in_its_folder(self, plan: Plan, run: TrainingRun) -> bool:
        pinned = pinned_folder(run)
        if pinned is not None:
            return plan.workspace_folder == pinned
        if run.status is None or run.status.plan_digest is None:
            return True
        # A status that lost the folder moves nobody out of it. What nothing contradicts, its record is believed.
        worked_in = folder_of_jobs(run, self._jobs_of(run))
        return worked_in is None or plan.workspace_folder == worked_in

    def _in_its_folder(self, fresh: Plan, run: TrainingRun) -> Plan | Blocker:
        """Returns a plan that has no record in the folder that the run was planned with, which may be an earlier run's.

        A run that is under way begins in no folder anew, for that would be empty: its status and its Jobs say where it
        is, and where neither does though it went on in an earlier folder, a person has to.
        """
        if run.status is None or run.status.plan_digest is None:
            return fresh
        folder = pinned_folder(run) or folder_of_jobs(run, self._jobs_of(run))
        if folder is None and newest_attempt(run) > plans.ATTEMPTS_APART:
            return Blocker("Planned", "FolderUnknown", _NO_FOLDER)
        if folder is None or folder == fresh.workspace_folder or not is_folder_of(run.name, folder):
            return fresh
        return plans.going_on_in(fresh, folder, newest_attempt(run))

    def _jobs_of(self, run: TrainingRun) -> list[Manifest]:
        return self.world.of_run(JOB, run.metadata.namespace or "", run.metadata.uid or "")

    async def _end_older(self, namespace: str, uid: str, *, planned: bool) -> None:
        """Ends what a pass that could not write its status made of an older spec.

        Raises Conflict until no pod of it is left: what such a pod did would pass for work on the newer spec.
        """
        jobs = self.world.of_run(JOB, namespace, uid)
        if not jobs and not planned:
            return  # A run that is planned for the first time.
        for job in jobs:
            await self.cluster.delete(JOB, namespace, job["metadata"]["name"], uid=job["metadata"]["uid"])
            self.world.remove(job)
        left = len(self.world.of_run(POD, namespace, uid))
        if not left:
            # Of what it is about to rely upon, the cache may be behind.
            async for page, _ in self.cluster.pages(POD, namespace, f"{names.RUN_UID}={uid}"):
                for pod in page:
                    self.world.put(pod)
                    left += 1
        if jobs or left:
            raise Conflict(f"{len(jobs)} Jobs and {left} pods of an older spec of this run are going")

    async def _stored(self, run: TrainingRun, namespace: str, uid: str) -> Manifest | None:
        name = names.plan(run.name, uid)
        found = self.world.get(CONFIG_MAP, namespace, name)
        if found is None and uid not in self._found:
            found = await self.cluster.get(CONFIG_MAP, namespace, name)
        return found

    async def _keep(self, plan: Plan) -> Manifest:
        manifest = plan_config_map(plan)
        name = manifest["metadata"]["name"]
        try:
            there = await self.cluster.create(manifest)
        except AlreadyExists:
            # A pass that died, or whose answer was lost, made it; or somebody did whom no watch tells of.
            there = await self.cluster.get(CONFIG_MAP, plan.run.namespace, name)
            if there is None or not _is_record(there, plan):
                if there is not None:
                    await config_maps.delete(self.cluster, there)
                raise Conflict(
                    f"there was a ConfigMap {name} that is not the plan of this run; it is made anew"
                ) from None
        self.world.put(there)
        return there

    def _resolve_as(self, run: TrainingRun, digest: str | None) -> Plan | Blocker:
        """Returns the plan that a run makes: in the version in which it has this digest, and else in the newest."""
        fresh = self._resolve(run)
        if digest is None or isinstance(fresh, Blocker) or fresh.digest == digest:
            return fresh
        for before in plans.OLDER:
            older = self._resolve(run, version=before)
            if isinstance(older, Plan) and older.digest == digest:
                return older
        return fresh

    def _resolve(self, run: TrainingRun, *, version: plans.Version = plans.NEWEST) -> Plan | Blocker:
        try:
            if run.spec.serving is not None:
                access.check(run.spec.serving.template)
            if (unknown := self._unknown_template(run)) is not None:
                return unknown
            runs = {name: self._artifact_of(run.metadata.namespace or "", name) for name in plans.named_runs(run)}
            missing = next((found for found in runs.values() if isinstance(found, Blocker)), None)
            if missing is not None:
                return missing
            known = {name: uri for name, uri in runs.items() if isinstance(uri, str)}
            images = self.settings.images
            defaults = ExecutorDefaults(
                folder=self.settings.training.examples,
                images=plans.Images(train=_pinned(run) or images.train, serve=images.serve),
                accelerator=self.settings.training.accelerator,
                runs=known,
            )
            return plans.resolve(run, defaults, version=version)
        except ManifestError as error:
            return Blocker("Planned", error.reason, f"serving.template.{error}")
        except uris.UriError as error:
            return Blocker("Planned", "BadUri", str(error))

    def _unknown_template(self, run: TrainingRun) -> Blocker | None:
        """Returns why a run cannot be planned whose pods, or those of its endpoint, nobody could make. A run under way
        whose template the chart has no more waits with its next attempt alone."""
        if run.status is not None and run.status.plan_digest is not None:
            return None
        serving = run.spec.serving
        picked = [("", run.spec.compute, self.settings.training)]
        templates = [("serving.template.", serving.template, self.settings.serving)] if serving is not None else []
        for where, wanted, defaults in [*picked, *templates]:
            try:
                pod_template.chosen(wanted, defaults)
            except ManifestError as error:
                return Blocker("Planned", error.reason, f"{where}{error}")
        return None

    def _artifact_of(self, namespace: str, name: str) -> str | Blocker:
        other = self.world.get(TRAINING_RUN, namespace, name)
        uri = at(other, "status", "artifact").get("uri")
        if self.world.aside(TRAINING_RUN, namespace, name) is not None:
            message = f"run://{name}: that run has the condition TooMany; this run goes on once it has not"
            return Blocker("Planned", "RunNotFound", message)
        if other is None:
            message = f"run://{name}: there is no TrainingRun {name} in this namespace; create it, and this run goes on"
            return Blocker("Planned", "RunNotFound", message)
        if not isinstance(uri, str):
            phase = at(other, "status").get("phase", "Pending")
            message = f"run://{name}: that run is {phase} and has no model yet; this run goes on once it has"
            return Blocker("Planned", "RunHasNoModel", message)
        return uri


def _with_edits(plan: Plan, run: TrainingRun) -> Plan:
    """Returns a plan with what may be edited after planning: that is the resource's, and the digest leaves it out."""
    plan = plans.placed(plan, run.spec.compute)
    edits = {"serving": run.spec.serving, "retention": run.spec.retention, "tracking": run.spec.tracking}
    return plan.model_copy(update=edits)


def check_place(run: TrainingRun, plan: Plan) -> None:
    """Raises ManifestError where a resource wants other nodes or processes than a plan of version 1 lets it have."""
    if fixed := plans.fixed_in_1(plan, run.spec.compute):
        said = " and ".join(f"{one.field} is {one.is_}, and its plan has {one.was}" for one in fixed)
        raise ManifestError(
            "PlanFixesProcesses",
            f"{said}: an earlier release planned this run, whose trainer goes by the plan; set them back, or make a "
            "run of another name. queue, priorityClassName, nodeSelector, tolerations and podTemplate may be edited",
        )


def _pinned(run: TrainingRun) -> str | None:
    """Returns the image that a run was planned with, as its status has it."""
    return run.status.train_image if run.status is not None and run.status.plan_digest is not None else None


def _lost(run: TrainingRun, stored: Manifest | None, why: str) -> Blocker:
    name = names.plan(run.name, run.metadata.uid or "")
    fault = "is gone" if stored is None else "cannot be read by this version of the operator"
    message = (
        f"the ConfigMap {name}, which holds this run's plan, {fault}, and the same plan cannot be made again: {why}. "
        "Put it back from a backup, or delete this run and create it anew"
    )
    return Blocker("Planned", "PlanLost", message)


def _plan_in(config_map: Manifest | None) -> Plan | None:
    text = at(config_map, "data").get("plan.json")
    if not isinstance(text, str):
        return None
    try:
        return plans.load(text)
    except (ValidationError, ValueError):
        # Written by a version whose models these are not.
        return None


def _decides(plan: Plan) -> tuple[object, ...]:
    """What of a plan decides what runs and where; its digest is that of its content. The rest may be edited."""
    place = plan.folder, plan.attempts_before
    return plan.run, plan.digest, plan.storage, plan.images, plan.accelerator, place


def _fingerprint(plan: Plan) -> bytes:
    return hashlib.sha256(repr(_decides(plan)).encode()).digest()


def _is_record(config_map: Manifest, plan: Plan) -> bool:
    """Whether a ConfigMap is as the operator keeps a plan, and holds this one: the pods of the run read it there."""
    wanted = {name: value for name, value in plan_config_map(plan).items() if name != "data"}
    found = _plan_in(config_map)
    return holds(config_map, wanted) and found is not None and _decides(found) == _decides(plan)
