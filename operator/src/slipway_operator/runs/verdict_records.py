"""Passing verdicts as ConfigMaps, one a digest: they outlive the run, and let a version start (invariant A)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from slipway_core.plan import Plan
from slipway_core.resources.status import RunStatus, Verdict
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common.owned_objects import holds
from slipway_operator.common.verdict_reader import VerdictReader
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists, Conflict
from slipway_operator.kube.kinds import CONFIG_MAP, MODEL_ENDPOINT
from slipway_operator.kube.manifest import Manifest, at, items
from slipway_operator.manifests.run.verdict_config_map import (
    DIGEST_KEY,
    RUN_UID_KEY,
    VERDICT_KEY,
    verdict_config_map,
)
from slipway_operator.runs import config_maps


@dataclass
class Verdicts:
    cluster: Cluster
    world: World
    clock: Callable[[], datetime]
    reader: VerdictReader

    async def keep(self, plan: Plan, status: RunStatus, *, at_work: bool = True) -> None:
        """Keeps a run's passing verdict, or takes back its own one when a later judgement did not pass.

        `at_work`: whether this process has worked on the run, so that what the verdict says is worth reading.
        """
        evaluation, artifact = status.evaluation, status.artifact
        if evaluation is None or artifact is None or evaluation.artifact_digest != artifact.digest:
            return
        namespace, name = plan.run.namespace, names.verdict(artifact.digest)
        there = self.world.get(CONFIG_MAP, namespace, name)
        if evaluation.verdict is not Verdict.PASS:
            unknown = self.world.all_aside(MODEL_ENDPOINT, namespace)
            if there is None or unknown or artifact.digest in served_digests(self.world, namespace):
                return  # Somebody serves it, or may.
            if (await self.reader.read(namespace, name)).get(RUN_UID_KEY) == plan.run.uid:
                await self.cluster.delete(CONFIG_MAP, namespace, name)
            return
        if there is not None and not at_work:
            return  # It has had its effect, and whoever starts the model reads it again.
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
            if there is not None:
                self.world.put(there)
                self.reader.remember(there)
        if there is None or not _says_the_same(there, await self.reader.read(namespace, name), manifest):
            # Somebody put something else under that name, which would keep a model that passed from going live.
            if there is not None:
                await config_maps.delete(self.cluster, there)
                self.world.remove(there)
            raise Conflict(f"there was a ConfigMap {name} that is not the verdict on this model; it is made anew")


def _says_the_same(there: Manifest, said: Mapping[str, str], wanted: Manifest) -> bool:
    """Whether a ConfigMap says of the same model that it passed; the one of another run does as well."""
    alike = all(said.get(name) == wanted["data"][name] for name in (DIGEST_KEY, VERDICT_KEY))
    return alike and holds(there, {"metadata": {"labels": wanted["metadata"]["labels"]}})


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
