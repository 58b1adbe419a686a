"""How many replicas the version that answers has, by its load."""

from __future__ import annotations

from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.endpoint.metadata import endpoint_object


def autoscaler(endpoint: ModelEndpoint, deployment: str) -> Manifest | None:
    """Returns the HorizontalPodAutoscaler of a version's Deployment; None for an endpoint without autoscaling.

    Args:
        endpoint: whose it is.
        deployment: its name, which another release may have given it.
    """
    scaling = endpoint.spec.autoscaling
    if scaling is None:
        return None
    name = endpoint.metadata.name
    cpu = {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent}
    return {
        **endpoint_object("autoscaling/v2", "HorizontalPodAutoscaler", names.endpoint(name), endpoint),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": cpu}}],
        },
    }
