"""The one address of an endpoint. Its selector is the switch of a rollout.

Its annotations have what the versions are made of that may have to be made again: their Deployments may be gone.
"""

from __future__ import annotations

from collections.abc import Mapping

from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest, notes
from slipway_operator.manifests.endpoint.metadata import endpoint_object

_NOBODY = "none"


def endpoint_service(endpoint: ModelEndpoint, version: int | None, frozen: Mapping[int, str] | None = None) -> Manifest:
    """Returns the Service. It sends to no pod while no version has the traffic (None).

    Args:
        endpoint: whose it is.
        version: the one that has the traffic.
        frozen: of the versions that may have to be made again, the annotation names.FROZEN of their Deployments.
    """
    selector = names.version_labels(endpoint.metadata.name, version or 0)
    if version is None:
        selector[names.VERSION] = _NOBODY
    manifest = endpoint_object("v1", "Service", names.service(endpoint.metadata.name), endpoint)
    if frozen:
        own = {f"{names.FROZEN_OF}{number}": text for number, text in frozen.items()}
        manifest["metadata"]["annotations"] = own
    return {
        **manifest,
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


def frozen_versions(service: Manifest) -> dict[int, str]:
    """Returns what a Service has of its versions, by their numbers."""
    found = {name.removeprefix(names.FROZEN_OF): text for name, text in notes(service).items()}
    return {int(number): text for number, text in found.items() if number.isdigit()}
