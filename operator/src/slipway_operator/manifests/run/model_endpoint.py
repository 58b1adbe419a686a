"""The ModelEndpoint that a run's promotion makes, or tells what to serve."""

from __future__ import annotations

from slipway_core.lifecycle.decision import Promote
from slipway_core.lifecycle.endpoint_claim import annotations_of
from slipway_core.plan import Plan
from slipway_core.resources.model_endpoint import EndpointTemplate, ModelEndpoint, ServedModel
from slipway_core.resources.training_run import TrainingRun
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.endpoint import access


def model_endpoint(promote: Promote, run: TrainingRun, plan: Plan, existing: ModelEndpoint | None) -> Manifest:
    """Returns what a promotion writes.

    An endpoint that does not exist is to be created, with the settings of the run's template. One that exists is to be
    applied to: the model and where it comes from, and nothing else, for its settings are whoever's made it. It must
    not be applied in the first case: the second apply would take the template's settings away again.

    It has no owner: deleting the run leaves the endpoint live.

    Raises ManifestError for access that cannot be had on a cluster.
    """
    model = ServedModel(uri=promote.uri, digest=promote.digest, run=promote.run)
    spec: Manifest = {"model": model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)}
    if existing is None:
        template = plan.serving.template if plan.serving is not None else EndpointTemplate()
        access.check(template)
        settings = template.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
        spec = {**settings, **spec}
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelEndpoint",
        "metadata": {
            "name": promote.endpoint,
            "namespace": plan.run.namespace,
            "annotations": annotations_of(promote, run, plan),
        },
        "spec": spec,
    }
