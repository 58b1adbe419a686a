"""Who reaches the pods of an endpoint, and whom they reach."""

from __future__ import annotations

from slipway_core.resources import uris
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.endpoint.metadata import endpoint_object

_DNS = 53
_HTTPS = 443


def network_policy(endpoint: ModelEndpoint) -> Manifest:
    """Returns the policy: in from every pod of the cluster to the port http; out to DNS, and by HTTPS for a fetch."""
    name = endpoint.metadata.name
    egress: list[Manifest] = [{"ports": [{"protocol": protocol, "port": _DNS} for protocol in ("UDP", "TCP")]}]
    if any(uris.parse(uri).remote for uri in _uris(endpoint)):
        egress.append({"ports": [{"protocol": "TCP", "port": _HTTPS}]})
    return {
        **endpoint_object("networking.k8s.io/v1", "NetworkPolicy", names.endpoint(name), endpoint),
        "spec": {
            "podSelector": {"matchLabels": names.endpoint_labels(name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": "http"}]}],
            "egress": egress,
        },
    }


def _uris(endpoint: ModelEndpoint) -> list[str]:
    """Returns the models that may start now or be put back."""
    status, model = endpoint.status, endpoint.spec.model
    versions = [status.live, status.candidate, *status.history] if status is not None else []
    return [*([model.uri] if model is not None else []), *(v.uri for v in versions if v is not None)]
