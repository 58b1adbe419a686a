"""Judgements as ConfigMaps, one each, signed: they outlive the run, and let a version start or not (invariant A)."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_core.lifecycle.judgement import judgement_statement
from slipway_core.plan import Plan
from slipway_core.protocol import envelope
from slipway_core.protocol.statement import Statement
from slipway_core.protocol.trust import Flaw
from slipway_core.resources.status import RunStatus
from slipway_operator import names
from slipway_operator.cache.world import World
from slipway_operator.common.signing_keys import SigningKeys
from slipway_operator.common.verdict_reader import VerdictReader, judgement_digest
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists, Conflict
from slipway_operator.kube.kinds import CONFIG_MAP, MODEL_ENDPOINT
from slipway_operator.kube.manifest import Manifest, at, items, labels
from slipway_operator.manifests.run.verdict_config_map import verdict_config_map
from slipway_operator.runs import config_maps


@dataclass
class Verdicts:
    cluster: Cluster
    world: World
    reader: VerdictReader
    keys: SigningKeys

    def lacks(self, plan: Plan, status: RunStatus) -> bool:
        """Whether a judgement of a run has no record: one of an earlier release, or one that somebody removed."""
        name = _name(plan, status)
        if name is None or self.world.get(CONFIG_MAP, plan.run.namespace, name) is not None:
            return False
        return judgement_statement(plan, status) is not None

    async def keep(self, plan: Plan, status: RunStatus, *, at_work: bool = True) -> None:
        """Signs what a run's status says of its model, whatever that is, and keeps it; once for each evaluation, and
        again where the key that signed it is retired, or none that is known. What a revoked key signed stays so until
        somebody removes the record, for it took traffic away.

        `at_work`: whether this process has read the record of the run's plan, so that something may be made of it.

        Raises SigningKeyError, Conflict where there was another record of that name, and ClusterError.
        """
        namespace, name = plan.run.namespace, _name(plan, status)
        statement = judgement_statement(plan, status) if name is not None and at_work else None
        if name is None or statement is None or status.evaluation is None or status.artifact is None:
            return
        there = self.world.get(CONFIG_MAP, namespace, name)
        if there is not None:
            if await self._says_the_same(there, statement):
                return
            # Somebody put something else under that name, which would keep a model that passed from going live, or
            # keep one from being known that did not. It stays while there is no key to put the right one there.
            await self.keys.signing()
            await config_maps.delete(self.cluster, there)
            self.world.remove(there)
            raise Conflict(f"there was a ConfigMap {name} that is not this judgement, signed; it is made anew")
        manifest = verdict_config_map(
            namespace,
            status.evaluation,
            status.artifact,
            statement=statement,
            sealed=envelope.seal(statement, await self.keys.signing()),
            endpoint=plan.serving.endpoint if plan.serving is not None else None,
        )
        try:
            there = await self.cluster.create(manifest)
        except AlreadyExists:
            found = await self.cluster.get(CONFIG_MAP, namespace, name)
            if found is not None:
                self.world.put(found)
            raise Conflict(f"there is a ConfigMap {name} already; it is looked at") from None
        self.world.put(there)
        await self.reader.made(there)

    async def _says_the_same(self, there: Manifest, statement: Statement) -> bool:
        metadata = there["metadata"]
        looked = await self.reader.look(metadata["namespace"], metadata["name"], statement.digest)
        held, error = looked.found.held, looked.found.error
        if held is None:
            return error is not None and error.flaw is Flaw.KEY_REVOKED
        alike = looked.judgement == judgement_digest(statement)
        named = {names.ROLE: "verdict", names.DIGEST: names.digest_label(statement.digest)}
        labelled = all(labels(there).get(name) == value for name, value in named.items())
        return alike and labelled and not held.key.retired(self.keys.clock())


def _name(plan: Plan, status: RunStatus) -> str | None:
    """Returns the name of the record of the judgement that a status names; None where it names none of its artifact."""
    evaluation, artifact = status.evaluation, status.artifact
    if evaluation is None or artifact is None or evaluation.artifact_digest != artifact.digest:
        return None
    return names.judgement(artifact.digest, plan.run.uid, evaluation.number)


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
