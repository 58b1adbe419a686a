"""Passing verdicts as ConfigMaps, one a digest: they outlive the run, and let a version start (invariant A)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from slipway_core.plan import Plan
from slipway_core.resources.status import RunStatus, Verdict
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common.owned_objects import holds
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists, Conflict
from slipway_operator.kube.kinds import CONFIG_MAP, MODEL_ENDPOINT
from slipway_operator.kube.manifest import Manifest, at, items
from slipway_operator.manifests.run.verdict_config_map import DIGEST_KEY, VERDICT_KEY, verdict_config_map
from slipway_operator.runs import config_maps


@dataclass(frozen=True)
class Verdicts:
    cluster: Cluster
    world: World
    clock: Callable[[], datetime]

    async def keep(self, plan: Plan, status: RunStatus) -> None:
        """Keeps a run's passing verdict, or takes back its own one when a later judgement did not pass."""
        evaluation, artifact = status.evaluation, status.artifact
        if evaluation is None or artifact is None or evaluation.artifact_digest != artifact.digest:
            return
        namespace, name = plan.run.namespace, names.verdict(artifact.digest)
        there = self.world.get(CONFIG_MAP, namespace, name)
        if evaluation.verdict is not Verdict.PASS:
            own = at(there, "data").get("runUid") == plan.run.uid
            if own and artifact.digest not in served_digests(self.world, namespace):
                await self.cluster.delete(CONFIG_MAP, namespace, name)
            return
        manifest = verdict_config_map(
            namespace,
            evaluation,
            artifact,
            run=plan.run.name,
            uid=plan.run.uid,
            plan_digest=plan.digest,
            now=self.clock(),
        )
        if there is None:
            try:
                there = await self.cluster.create(manifest)
            except AlreadyExists:
                there = await self.cluster.get(CONFIG_MAP, namespace, name)
        if there is None or not _says_the_same(there, manifest):
            # Somebody put something else under that name, which would keep a model that passed from going live.
            if there is not None:
                await config_maps.delete(self.cluster, there)
                self.world.remove(there)
            raise Conflict(f"there was a ConfigMap {name} that is not the verdict on this model; it is made anew")
        self.world.put(there)


def _says_the_same(there: Manifest, wanted: Manifest) -> bool:
    """Whether a ConfigMap says of the same model that it passed; the one of another run does as well."""
    said = {name: wanted["data"][name] for name in (DIGEST_KEY, VERDICT_KEY)}
    labelled = {"labels": wanted["metadata"]["labels"]}
    return holds(there, {"metadata": labelled, "immutable": True, "data": said})


def served_digests(world: World, namespace: str) -> set[str]:
    """Returns the digests that an endpoint of the namespace serves, starts, or could go back to."""
    found: set[str] = set()
    for endpoint in world.all(MODEL_ENDPOINT, namespace):
        status = at(endpoint, "status")
        versions = [
            at(status, "live"),
            at(status, "candidate"),
            *items(status, "history"),
            at(endpoint, "spec", "model"),
        ]
        found |= {str(version["digest"]) for version in versions if "digest" in version}
    return found
