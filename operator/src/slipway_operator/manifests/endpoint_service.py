"""The one address of an endpoint. Its selector is the switch of a rollout."""

from __future__ import annotations

from slipway_core.model_endpoint import ModelEndpoint
from slipway_operator import names
from slipway_operator.manifest import Manifest
from slipway_operator.manifests.endpoint_object import endpoint_object

_NOBODY = "none"


def endpoint_service(endpoint: ModelEndpoint, version: int | None) -> Manifest:
    """Returns the Service. It sends to no pod while no version has the traffic (None)."""
    selector = names.version_labels(endpoint.metadata.name, version or 0)
    if version is None:
        selector[names.VERSION] = _NOBODY
    return {
        **endpoint_object("v1", "Service", names.service(endpoint.metadata.name), endpoint),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{"name": "http", "port": endpoint.spec.port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def routed_version(service: Manifest | None) -> int | None:
    """Returns the version that a Service sends to."""
    if service is None:
        return None
    number = str(service.get("spec", {}).get("selector", {}).get(names.VERSION, _NOBODY))
    return int(number) if number.isdigit() else None
