"""What an eviction may take of the version that answers."""

from __future__ import annotations

from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.endpoint.metadata import endpoint_object


def pod_disruption_budget(endpoint: ModelEndpoint, version: int) -> Manifest:
    """Returns the budget of the version that has the traffic: one pod of it stays (invariant B).

    With one replica the drain of its node waits until there is a second. A pod that does not answer keeps nobody
    waiting.
    """
    return {
        **endpoint_object("policy/v1", "PodDisruptionBudget", names.endpoint(endpoint.metadata.name), endpoint),
        "spec": {
            "minAvailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.version_labels(endpoint.metadata.name, version)},
        },
    }
