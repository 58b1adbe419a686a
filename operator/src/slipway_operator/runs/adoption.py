"""A run that is created again goes on in the folder of the earlier one: after a restore, a `replace --force`, or a
deletion that nobody meant.

An earlier run's record is enough: same name, same plan, same claim. The attempts of the new run are counted from a
round number on that no fence in the folder has reached: no writer of the earlier run is ever taken for a newer one, and
no report of it for one of this run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from slipway_core import plan as plans
from slipway_core.lifecycle.annotations import REMOVE_ANNOTATION, REMOVE_NOW
from slipway_core.plan import Images, Plan, RunIdentity
from slipway_core.protocol.workspace import is_folder_of, run_folder
from slipway_core.resources.conditions import Blocker
from slipway_core.resources.training_run import TrainingRun
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common import failure_class
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import Conflict
from slipway_operator.kube.kinds import CONFIG_MAP, JOB, POD
from slipway_operator.kube.manifest import Manifest, at, job_end, labels, notes
from slipway_operator.manifests.run.plan_config_map import PLAN_KEY
from slipway_operator.runs import own_objects
from slipway_operator.settings import Settings


def pinned_folder(run: TrainingRun) -> str | None:
    """Returns the folder that a run was planned with, as its status has it: that of an earlier uid where the status is
    back from a backup. None where it has none, or a release planned it that wrote none."""
    return run.status.folder if run.status is not None and run.status.plan_digest is not None else None


def folder_of_jobs(run: TrainingRun, jobs: Iterable[Manifest]) -> str | None:
    """Returns the folder that the Jobs of a run work in, those first that its status has; None where there are none.

    Where the status names no folder, they do: one that a release made which noted none works in the run's own.
    """
    uid = run.metadata.uid or ""
    recorded = {stage.job for stage in run.status.stages} if run.status is not None else set[str | None]()
    own = own_objects.claimed(jobs, run.name, uid)
    newest = max(own, key=lambda job: (job["metadata"]["uid"] in recorded, _created(job)), default=None)
    if newest is None:
        return None
    folder = notes(newest).get(names.FOLDER, "").partition("/")[2]
    return folder if is_folder_of(run.name, folder) else run_folder(run.name, uid)


def newest_attempt(run: TrainingRun) -> int:
    return max((stage.attempt for stage in run.status.stages), default=0) if run.status is not None else 0


@dataclass
class Adoption:
    cluster: Cluster
    world: World
    settings: Settings
    deciding: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from the look at a folder until it has a new record, or a Job that removes it: never both."""

    async def adopt(self, run: TrainingRun, fresh: Plan | None, digest: str) -> Plan | Blocker | None:
        """Returns the plan of a run that has no record yet, in the folder of an earlier run of its name; None where
        there is no such folder, or something of it was removed. Call it with `deciding` held.

        Args:
            run: which has no record under its own uid.
            fresh: what its spec makes; None where it makes nothing any more.
            digest: of the plan that it is to have.

        Raises Conflict while a folder of that name is being removed, and ClusterError.
        """
        pinned, uid, namespace = pinned_folder(run), run.metadata.uid or "", run.metadata.namespace or ""
        if not self.is_possible(run):
            return None
        older = await self._earlier(run, digest, pinned)
        if older is None and pinned is None:
            return None
        if older is None and (touched := self._touched(run, pinned)) is not None:
            message = (
                f"something of the folder {pinned} that status.folder names was removed (the ConfigMap {touched} says "
                "so): what the status says is done may be gone. Delete this run and create it anew, without its status"
            )
            return Blocker("Planned", "FolderRemoved", message)
        folder = older.workspace_folder if older is not None else pinned or ""
        base = fresh if fresh is not None and fresh.digest == digest else self._of_older(run, older)
        if base is None or not is_folder_of(run.name, folder):
            return None
        if older is None and (job := self._removal_under_way(namespace, run.name, uid)) is not None:
            raise Conflict(f"the Job {job} removes what an earlier run of this name left")
        if (alive := await self._alive(namespace, run.name, uid)) is not None:
            message = (
                f"the {alive} of an earlier run of this name has not ended yet; this run goes on in its folder "
                f"{folder} once it has. Where its node is lost, delete the pod with --force; delete a Job that nobody "
                "ends"
            )
            return Blocker("Planned", "EarlierRunEnds", message)
        before = older.attempts_before or 0 if older is not None else 0
        return plans.going_on_in(base, folder, max(newest_attempt(run), before))

    def is_possible(self, run: TrainingRun) -> bool:
        """Whether there may be a folder of an earlier run for a run that has no record."""
        pinned = pinned_folder(run)
        if pinned is not None:
            return pinned != run_folder(run.name, run.metadata.uid or "")
        # One that has Jobs goes on where it is. The status of one that is back from a backup tells of another uid's.
        begun = self.world.of_run(JOB, run.metadata.namespace or "", run.metadata.uid or "")
        return bool(self._left(run)) and not begun

    async def _earlier(self, run: TrainingRun, digest: str, pinned: str | None) -> Plan | None:
        """Returns the plan of the newest earlier run that has the same, and whose folder nothing was removed from."""
        namespace = run.metadata.namespace or ""
        for record in sorted(self._left(run), key=_created, reverse=True):
            plan = await self._plan(record)
            if (
                plan is not None
                and (plan.run.namespace, plan.run.name, plan.digest) == (namespace, run.name, digest)
                and plan.storage == run.spec.storage
                and pinned in (None, plan.workspace_folder)
            ):
                return plan
        return None

    def _left(self, run: TrainingRun) -> list[Manifest]:
        """Returns the records of earlier runs of a name whose folders are as they were."""
        namespace = run.metadata.namespace or ""
        return [
            record
            for record in self.world.orphans(namespace)
            if labels(record).get(names.RUN) == names.label(run.name)
            and notes(record).get(REMOVE_ANNOTATION) != REMOVE_NOW
            and not self._is_touched(record)
        ]

    def _touched(self, run: TrainingRun, folder: str | None) -> str | None:
        """Returns the record of a folder of which something was removed."""
        for record in self.world.orphans(run.metadata.namespace or ""):
            if notes(record).get(names.FOLDER, "").partition("/")[2] == folder and self._is_touched(record):
                return str(record["metadata"]["name"])
        return None

    async def _plan(self, record: Manifest) -> Plan | None:
        metadata = record["metadata"]
        there = await self.cluster.get(CONFIG_MAP, metadata["namespace"], metadata["name"])
        try:
            plan = plans.load(str(at(there, "data").get(PLAN_KEY, "")))
        except ValueError:
            return None
        uid = labels(record).get(names.RUN_UID, "")
        return plan if plan.run.uid == uid and names.plan(plan.run.name, uid) == metadata["name"] else None

    def _is_touched(self, record: Manifest) -> bool:
        """Whether something of what a run left was removed, or is about to be. Of what a release removed that noted
        nothing, the Job tells for as long as it is there."""
        namespace, uid = record["metadata"]["namespace"], labels(record).get(names.RUN_UID, "")
        jobs = self.world.of_run(JOB, namespace, uid)
        return names.REMOVING in notes(record) or any(labels(job).get(names.ROLE) == names.CLEANUP for job in jobs)

    def _removal_under_way(self, namespace: str, name: str, uid: str) -> str | None:
        for job in self.world.cleanups():
            own, metadata = labels(job), job["metadata"]
            named = (metadata["namespace"], own.get(names.RUN)) == (namespace, names.label(name))
            if named and own.get(names.RUN_UID) != uid and job_end(job) is None:
                return str(metadata["name"])
        return None

    async def _alive(self, namespace: str, name: str, uid: str) -> str | None:
        """Returns the pod of an earlier run that has a process, or the Job that may yet make one: a queue may hold it,
        and what `--cascade=orphan` left goes on by itself. The cache may know less of them than there is.

        A pod counts with the Job that controls it, so that nobody is kept waiting by labels alone.
        """
        selector = f"{names.CHILDREN},{names.RUN}={names.label(name)},{names.ROLE}=step"
        async for page, _ in self.cluster.pages(POD, namespace, selector):
            for pod in page:
                theirs = labels(pod).get(names.RUN_UID) != uid and own_objects.may_write(pod, name, ())
                if theirs and not failure_class.has_ended(pod):
                    return f"pod {pod['metadata']['name']}"
        async for page, _ in self.cluster.pages(JOB, namespace, selector):
            for job in page:
                theirs = labels(job).get(names.RUN_UID) != uid and own_objects.is_named_like_an_attempt(job, name)
                over = "deletionTimestamp" in job["metadata"] or job_end(job) is not None
                if theirs and not over:
                    return f"Job {job['metadata']['name']}"
        return None

    def _of_older(self, run: TrainingRun, older: Plan | None) -> Plan | None:
        """Returns the plan of an earlier run as this one's, whose spec does not make the same any more."""
        if older is None:
            return None
        pinned = run.status.train_image if run.status is not None else None
        return older.model_copy(
            update={
                "run": RunIdentity(name=run.name, namespace=older.run.namespace, uid=run.metadata.uid or ""),
                "images": Images(train=pinned or self.settings.images.train, serve=self.settings.images.serve),
                "accelerator": run.spec.compute.accelerator or older.accelerator,
            }
        )


def _created(record: Manifest) -> str:
    return str(record["metadata"].get("creationTimestamp", ""))
