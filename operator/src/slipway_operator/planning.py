"""The plan of a run: resolved once, kept in an immutable ConfigMap, and read from there ever after (invariant E)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from pydantic import ValidationError

from slipway_core import plan as plans
from slipway_core import uris
from slipway_core.observed import Blocker
from slipway_core.plan import ExecutorDefaults, Plan, RunIdentity
from slipway_core.training_run import TrainingRun
from slipway_operator import names
from slipway_operator.cluster import CONFIG_MAP, JOB, TRAINING_RUN, AlreadyExists, Cluster
from slipway_operator.manifest import Manifest, at
from slipway_operator.manifests import access
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.plan_config_map import plan_config_map
from slipway_operator.settings import Settings
from slipway_operator.world import World

_KEPT = 512
"""Plans in memory; one is a few KiB, and reading it from its ConfigMap takes a millisecond."""


@dataclass
class Plans:
    cluster: Cluster
    world: World
    settings: Settings
    _read: OrderedDict[str, Plan] = field(default_factory=OrderedDict[str, Plan])
    """By the run's uid, the one used last at the end."""

    async def of(self, run: TrainingRun) -> Plan | Blocker:
        """Returns what runs, or what is in the way of planning it.

        Until status names the plan's digest the spec may still be edited, so that a plan of an older spec is made anew.
        From then on nothing but that plan runs: its ConfigMap comes back when somebody deletes it, and where the same
        plan cannot be made any more, nothing goes on (invariant E).

        Raises ClusterError.
        """
        uid, namespace = run.metadata.uid or "", run.metadata.namespace or ""
        settled = run.status.plan_digest if run.status is not None else None
        stored = await self._stored(run, namespace, uid)
        plan = self._read.get(uid) or _plan_in(stored)
        identity = RunIdentity(name=run.name, namespace=namespace, uid=uid)
        if plan is not None and (plan.run != identity or settled not in (None, plan.digest)):
            # Somebody put another one there. Its Jobs would be made where it says, in another namespace perhaps.
            plan = None
        if plan is None or settled is None:
            fresh = self._resolve(run)
            if isinstance(fresh, Blocker):
                return fresh if settled is None else _lost(run, stored, fresh.message)
            if settled not in (None, fresh.digest):
                return _lost(run, stored, "this operator's defaults make another one")
            if stored is not None and (plan is None or plan.digest != fresh.digest):
                if settled is None:
                    await self._stop_jobs(namespace, uid)
                await self.cluster.delete(CONFIG_MAP, namespace, names.plan(run.name, uid))
                plan = stored = None
            plan = plan or fresh
        if stored is None:
            plan = await self._keep(plan, namespace)
        self._read[uid] = plan
        self._read.move_to_end(uid)
        if len(self._read) > _KEPT:
            self._read.popitem(last=False)
        # What may be edited after planning is taken from the resource; the digest leaves it out.
        return plan.model_copy(update={"serving": run.spec.serving, "retention": run.spec.retention})

    def forget(self, uid: str) -> None:
        self._read.pop(uid, None)

    async def _stop_jobs(self, namespace: str, uid: str) -> None:
        """Ends what a pass that could not write its status made of an older spec."""
        for job in self.world.of_run(JOB, namespace, uid):
            await self.cluster.delete(JOB, namespace, job["metadata"]["name"], uid=job["metadata"]["uid"])
            self.world.remove(job)

    async def _stored(self, run: TrainingRun, namespace: str, uid: str) -> Manifest | None:
        name = names.plan(run.name, uid)
        found = self.world.get(CONFIG_MAP, namespace, name)
        if found is None and uid not in self._read:
            found = await self.cluster.get(CONFIG_MAP, namespace, name)
        return found

    async def _keep(self, plan: Plan, namespace: str) -> Plan:
        manifest = plan_config_map(plan)
        try:
            self.world.put(await self.cluster.create(manifest))
            return plan
        except AlreadyExists:
            # A pass that died, or whose answer was lost, made it.
            there = await self.cluster.get(CONFIG_MAP, namespace, manifest["metadata"]["name"])
            return _plan_in(there) or plan

    def _resolve(self, run: TrainingRun) -> Plan | Blocker:
        try:
            if run.spec.serving is not None:
                access.check(run.spec.serving.template)
            runs = {name: self._artifact_of(run.metadata.namespace or "", name) for name in plans.named_runs(run)}
            missing = next((found for found in runs.values() if isinstance(found, Blocker)), None)
            if missing is not None:
                return missing
            known = {name: uri for name, uri in runs.items() if isinstance(uri, str)}
            defaults = ExecutorDefaults(
                folder=self.settings.training.examples,
                images=plans.Images(train=self.settings.images.train, serve=self.settings.images.serve),
                accelerator=self.settings.training.accelerator,
                runs=known,
            )
            return plans.resolve(run, defaults)
        except ManifestError as error:
            return Blocker("Planned", error.reason, f"serving.template.{error}")
        except uris.UriError as error:
            return Blocker("Planned", "BadUri", str(error))

    def _artifact_of(self, namespace: str, name: str) -> str | Blocker:
        other = self.world.get(TRAINING_RUN, namespace, name)
        uri = at(other, "status", "artifact").get("uri")
        if other is None:
            message = f"run://{name}: there is no TrainingRun {name} in this namespace; create it, and this run goes on"
            return Blocker("Planned", "RunNotFound", message)
        if not isinstance(uri, str):
            phase = at(other, "status").get("phase", "Pending")
            message = f"run://{name}: that run is {phase} and has no model yet; this run goes on once it has"
            return Blocker("Planned", "RunHasNoModel", message)
        return uri


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
