"""Who reaches the pods of an endpoint, and whom they reach."""

from __future__ import annotations

from collections.abc import Iterable

from slipway_core.resources import uris
from slipway_core.resources.model_endpoint import Access, ModelEndpoint
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.endpoint import access
from slipway_operator.manifests.endpoint.metadata import endpoint_object
from slipway_operator.settings import Peer, Settings

_DNS = 53
_HTTPS = 443
_EVERY_NAMESPACE: Manifest = {"namespaceSelector": {}}
_OWN_NAMESPACE: Manifest = {"podSelector": {}}
_NAME_OF_NAMESPACE = "kubernetes.io/metadata.name"
"""Label that Kubernetes itself keeps on every namespace, and that nobody can give to another one."""


def network_policy(endpoint: ModelEndpoint, settings: Settings, running: Iterable[Access] = ()) -> Manifest:
    """Returns the policy: who may come in to the port http; out to DNS, and by HTTPS for a fetch.

    There is one for all versions, since a Service and its clients know of none. So it lets in whom every one of them
    is meant for: one that wants no key, and runs beside one that does, keeps other namespaces out until it has ended.

    Args:
        endpoint: whose it is.
        settings: of the operator.
        running: the access that versions were made with that run.
    """
    name = endpoint.metadata.name
    egress: list[Manifest] = [{"ports": [{"protocol": protocol, "port": _DNS} for protocol in ("UDP", "TCP")]}]
    if any(uris.parse(uri).remote for uri in _uris(endpoint)):
        egress.append({"ports": [{"protocol": "TCP", "port": _HTTPS}]})
    meant_for_all = all(access.is_for_every_namespace(one) for one in [endpoint.spec.access, *running])
    peers = [_EVERY_NAMESPACE] if meant_for_all else _near(settings)
    return {
        **endpoint_object("networking.k8s.io/v1", "NetworkPolicy", names.endpoint(name), endpoint),
        "spec": {
            "podSelector": {"matchLabels": names.endpoint_labels(name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers, "ports": [{"protocol": "TCP", "port": "http"}]}],
            "egress": egress,
        },
    }


def _near(settings: Settings) -> list[Manifest]:
    """Returns who asks an endpoint that wants no key: its own namespace, the operator, which asks a candidate a prompt,
    and who reads metrics. The kubelet's probes come from the node, which network plugins let through."""
    operators = _namespace(settings.lease.namespace)
    return [
        _OWN_NAMESPACE,
        operators,
        *(_elsewhere(peer, operators) for peer in settings.network_policy.metrics_from),
    ]


def _elsewhere(peer: Peer, operators: Manifest) -> Manifest:
    """Returns a peer of the operator's policy as one of a policy in another namespace: pods that it names without a
    namespace are those of the operator's, and would be the tenant's there."""
    manifest = peer.manifest()
    return manifest if peer.namespace_selector is not None or peer.ip_block is not None else {**operators, **manifest}


def _namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {_NAME_OF_NAMESPACE: name}}}


def _uris(endpoint: ModelEndpoint) -> list[str]:
    """Returns the models that may start now or be put back."""
    status, model = endpoint.status, endpoint.spec.model
    versions = [status.live, status.candidate, *status.history] if status is not None else []
    return [*([model.uri] if model is not None else []), *(v.uri for v in versions if v is not None)]
