"""What a finished run leaves, and when it goes.

A run's plan ConfigMap has no owner: it is the record of what lies in the workspace. Where its run is gone, whoever
deleted it, a cleanup Job removes the folder, and then the record goes. An artifact that an endpoint names, or that a
run starts from which may go on, stays with its record until nobody names it. So nothing here needs a finalizer, and an
operator that was away misses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway_core import plan as plans
from slipway_core.plan import Plan
from slipway_core.resources import conditions
from slipway_core.resources.api import seconds
from slipway_core.resources.conditions import parse_timestamp
from slipway_core.resources.status import Phase
from slipway_core.resources.training_run import Retention as RunRetention
from slipway_core.resources.training_run import TrainingRun
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common import failure_class
from slipway_operator.common.owned_objects import has_owner_of
from slipway_operator.common.verdict_reader import VerdictReader
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists, Conflict, Forbidden, Invalid
from slipway_operator.kube.kinds import CLAIM, CONFIG_MAP, JOB, MODEL_ENDPOINT, OWN, POD, TRAINING_RUN
from slipway_operator.kube.manifest import Manifest, at, condition, items, labels
from slipway_operator.manifests.owner import Owner
from slipway_operator.manifests.run import same_work
from slipway_operator.manifests.run.cleanup_job import cleanup_job
from slipway_operator.manifests.run.plan_config_map import PLAN_KEY
from slipway_operator.manifests.run.verdict_config_map import RUN_UID_KEY
from slipway_operator.runs import config_maps, repeated_cleanups
from slipway_operator.runs.attempts import claim_of
from slipway_operator.runs.repeated_cleanups import RepeatedCleanups
from slipway_operator.runs.verdict_records import served_digests
from slipway_operator.settings import Settings

_AGAIN = timedelta(seconds=30)
_PATIENCE = timedelta(minutes=10)
"""A cleanup Job that has not ended after this time may wait for a claim that is gone."""
_OVER = (Phase.SERVING, Phase.COMPLETED, Phase.REJECTED)
"""Phases of a run that makes no step any more. One that is Failed or Held goes on when it is told to."""


def time_left(run: TrainingRun, now: datetime) -> timedelta | None:
    """Returns how long a run is still kept; None for a run that is not finished, or that is kept for ever."""
    ttl, status = run.spec.retention.ttl_after_finished, run.status
    if ttl is None or status is None or not status.phase.finished:
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
    repeated: RepeatedCleanups = field(default_factory=RepeatedCleanups)

    async def reconcile(self, namespace: str, run: str | None = None, *, uid: str | None = None) -> timedelta | None:
        """Looks after what deleted runs left in a namespace: all of them, those of one name, or one of them.

        Returns when to look again. Raises ClusterError: the first one, after what one record is refused for did not
        keep the others waiting.
        """
        if self.world.overfull(namespace):
            return _AGAIN  # Not all is known of what may still be at work, or be needed.
        waiting, refused, living = False, None, None
        for record in self.world.orphans(namespace, uid):
            if run is None or labels(record).get(names.RUN) in (run, names.label(run)):
                living = self._living_folders(namespace) if living is None else living
                try:
                    waiting |= await self._clean(namespace, record, living)
                except (Forbidden, Invalid, Conflict) as error:
                    refused = refused or error
        if refused is not None:
            raise refused
        return _AGAIN if waiting else None

    def _living_folders(self, namespace: str) -> Set[str]:
        return {_folder_of(run) for run in self.world.all(TRAINING_RUN, namespace)}

    async def _clean(self, namespace: str, record: Manifest, living: Set[str]) -> bool:
        """Goes one step on with one record. Says whether there is another step that no event will tell of."""
        uid = labels(record).get(names.RUN_UID, "")
        under_way = self._under_way(namespace, uid)
        if under_way is not None and self.clock() - _made_at(under_way) < _PATIENCE:
            return False  # Its end is told.
        there = await self.cluster.get(CONFIG_MAP, namespace, _name(record))
        if there is None or there["metadata"]["uid"] != record["metadata"]["uid"]:
            return False
        try:
            plan = _without_data(plans.load(str(at(there, "data").get(PLAN_KEY, ""))))
        except ValueError:
            return False  # Nobody knows what it is about, so nothing is removed.
        if (plan.run.namespace, names.plan(plan.run.name, uid), plan.run.uid) != (namespace, _name(record), uid):
            return False  # Not what the operator wrote there: it is about another run, in another namespace perhaps.
        if _folder(plan) in living:
            return False  # Nor this one: a name has but the beginning of a uid, and this folder is a run's that lives.
        if not all(failure_class.has_ended(pod) for pod in self.world.of_run(POD, namespace, uid) if _of_step(pod)):
            return True
        served = self._is_served(plan)
        keep = served or self._is_base(plan)
        job = cleanup_job(plan, Owner.of(record), settings=self.settings, claim=claim_of(plan), keep_artifact=keep)
        named = names.cleanups(plan.run.name, uid, keep_artifact=keep)
        there = next((one for name in named if (one := self.world.get(JOB, namespace, name)) is not None), None)
        if keep and condition(there, "Complete"):
            return not served  # What becomes of an endpoint is told, and of a run only that it is gone.
        if self.world.get(TRAINING_RUN, namespace, plan.run.name) is None and await self._is_back(plan):
            return False
        if await self.cluster.get(CLAIM, namespace, claim_of(plan)) is None:
            # The folder went with its claim, and a pod that mounts it would wait for ever.
            await self._drop(namespace, record)
            return False
        if under_way is not None:
            return False
        if there is None:
            try:
                self.world.put(await self.cluster.create(job))
            except AlreadyExists:
                return True
            return False
        if condition(there, "Failed"):
            await self.cluster.delete(JOB, namespace, there["metadata"]["name"], uid=there["metadata"]["uid"])
            return True
        if condition(there, "Complete"):
            if (difference := await self._difference(there, job)) is not None:
                # Somebody's Job of that name, or one that another release made: what it did nobody knows.
                if not self.repeated.may_repeat(record["metadata"]["uid"], there["metadata"]["uid"], self.clock()):
                    name = there["metadata"]["name"]
                    await self.cluster.record(record, repeated_cleanups.told(name, plan.run.name, difference))
                    return False  # The next list of everything has it looked at again.
                await self.cluster.delete(JOB, namespace, there["metadata"]["name"], uid=there["metadata"]["uid"])
                return True
            self.repeated.forget(record["metadata"]["uid"])
            await self._drop(namespace, record)
        return False

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
        jobs = [job for job in self.world.of_run(JOB, namespace, uid) if labels(job).get(names.ROLE) == "cleanup"]
        ended = ("Complete", "Failed")
        return next((job for job in jobs if not any(condition(job, how) for how in ended)), None)

    async def _is_back(self, plan: Plan) -> bool:
        """Whether the API server has the run after all: the cache may be the one that is behind."""
        there = await self.cluster.get(TRAINING_RUN, plan.run.namespace, plan.run.name)
        return there is not None and _folder_of(there) == _folder(plan)

    async def _drop(self, namespace: str, record: Manifest) -> None:
        """Removes the record of a run whose files are gone, and before it the verdicts that nobody needs any more.

        The same model may have passed in two runs, and has one verdict.
        """
        runs = self.world.all(TRAINING_RUN, namespace)
        made = {str(at(run, "status", "artifact").get("digest", "")) for run in runs}
        needed = {names.digest_label(digest) for digest in served_digests(self.world, namespace) | made}
        all_known = not any(self.world.all_aside(kind, namespace) for kind in OWN)
        for found in self.world.records(namespace, "verdict") if all_known else ():
            if labels(found).get(names.DIGEST) not in needed:
                run = (await self.records.read(namespace, _name(found))).get(RUN_UID_KEY)
                if run and not self._is_kept(namespace, run, record):
                    await config_maps.delete(self.cluster, found)
        await config_maps.delete(self.cluster, record)

    def _is_kept(self, namespace: str, uid: str, record: Manifest) -> bool:
        """Whether there is a run of this uid, or what it left, but for the record that goes."""
        left = [found for found in self.world.of_run(CONFIG_MAP, namespace, uid) if _name(found) != _name(record)]
        return self.world.has_run(namespace, uid) or any(labels(one).get(names.ROLE) == "plan" for one in left)

    def _is_served(self, plan: Plan) -> bool:
        """Whether an endpoint serves the run's artifact, or is to be able to go back to it."""
        folder = _folder(plan)
        if self.world.all_aside(MODEL_ENDPOINT, plan.run.namespace):
            return True  # Nobody knows what those serve.
        return any(
            uri.startswith(folder)
            for endpoint in self.world.all(MODEL_ENDPOINT, plan.run.namespace)
            for uri in _kept_uris(endpoint, self._kept_versions(plan, endpoint))
        )

    def _kept_versions(self, plan: Plan, endpoint: Manifest) -> int:
        """Returns how many earlier versions of an endpoint stay: as many as any run wants that there is for it, or the
        one that is gone. Its record is as old as its plan; what was edited since is on the living runs alone. A record
        alone never says fewer than the default: somebody else may have written it."""
        runs = self.world.runs_for(plan.run.namespace, _name(endpoint))
        wanted = [at(run, "spec", "retention").get("keepArtifacts") or RunRetention().keep_artifacts for run in runs]
        return max([plan.retention.keep_artifacts, *(wanted or [RunRetention().keep_artifacts])])

    def _is_base(self, plan: Plan) -> bool:
        """Whether a run starts from this one's model that is under way, or that a person may have go on."""
        namespace = plan.run.namespace
        runs = self.world.starting_from(namespace, _folder(plan), f"run://{plan.run.name}")
        unknown = self.world.all_aside(TRAINING_RUN, namespace)
        return bool(unknown) or any(at(run, "status").get("phase") not in _OVER for run in runs)


def _kept_uris(endpoint: Manifest, keep: int) -> list[str]:
    """Returns the artifacts of an endpoint that must stay: what it serves, starts and was told to, and its history."""
    status = at(endpoint, "status")
    history = [version for version in items(status, "history") if version.get("state") != "Failed"][:keep]
    versions = [at(status, "live"), at(status, "candidate"), at(endpoint, "spec", "model"), *history]
    return [str(version["uri"]) for version in versions if "uri" in version]


def _folder(plan: Plan) -> str:
    """Returns how a URI begins that names something of the run."""
    return f"pvc://{claim_of(plan)}/{names.run_folder(plan.run.name, plan.run.uid)}/"


def _folder_of(run: Manifest) -> str:
    """Returns the same of a run that there is."""
    metadata = run["metadata"]
    claim = at(run, "spec", "storage").get("claimName") or names.WORKSPACE_CLAIM
    return f"pvc://{claim}/{names.run_folder(metadata['name'], metadata['uid'])}/"


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
