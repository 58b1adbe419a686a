"""Takes a model that passed to its endpoint: the endpoint is told what to serve, and rolls it out by itself."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_core.lifecycle.decision import Promote
from slipway_core.lifecycle.endpoint_claim import claim_on, is_later
from slipway_core.plan import Plan
from slipway_core.resources.training_run import TrainingRun
from slipway_operator.cache.world import World
from slipway_operator.kube import resources
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.errors import AlreadyExists
from slipway_operator.kube.kinds import MODEL_ENDPOINT
from slipway_operator.kube.manifest import Manifest, at, notes
from slipway_operator.manifests.run.model_endpoint import model_endpoint


@dataclass(frozen=True)
class Promotion:
    cluster: Cluster
    world: World

    async def tell(self, promote: Promote, run: TrainingRun, plan: Plan) -> None:
        """Makes the endpoint from the run's template, or tells the one that exists; one that was told is left alone.

        Raises ManifestError for settings that cannot be had on a cluster, Conflict for an endpoint that was deleted
        meanwhile, and ClusterError.
        """
        there = self.world.get(MODEL_ENDPOINT, plan.run.namespace, promote.endpoint)
        if there is not None:
            existing = resources.endpoint(there)
            claim = claim_on(existing)
            if claim is not None and is_later(claim, run, plan.run.uid):
                return  # It was told so while this pass was under way; the next one says what becomes of this run.
            wanted = model_endpoint(promote, run, plan, existing)
            if not _says(there, wanted):
                self.world.put(await self.cluster.apply(_to(there, wanted)))
            return
        wanted = model_endpoint(promote, run, plan, None)
        try:
            self.world.put(await self.cluster.create(wanted))
        except AlreadyExists:
            # Another run made it a moment ago. The next pass sees whose it is: the later run has it.
            found = await self.cluster.get(MODEL_ENDPOINT, plan.run.namespace, promote.endpoint)
            if found is not None:
                self.world.put(found)


def _to(there: Manifest, wanted: Manifest) -> Manifest:
    """Returns what is applied to exactly this endpoint, as it was looked at. One that was deleted at this moment would
    be made by it, open to all and without anything else of the run's template, and one that a later run was told to
    would be taken from it: both are a Conflict."""
    seen = {name: there["metadata"][name] for name in ("uid", "resourceVersion")}
    return {**wanted, "metadata": {**wanted["metadata"], **seen}}


def _says(there: Manifest, wanted: Manifest) -> bool:
    """Whether the endpoint was told this already, and has not answered yet."""
    model, told = at(there, "spec", "model"), notes(there)
    # What else the model has (acceptUnjudged, credentials) is whoever's made the endpoint, and an apply leaves it.
    says = all(model.get(name) == value for name, value in at(wanted, "spec", "model").items())
    return says and all(told.get(name) == value for name, value in notes(wanted).items())
