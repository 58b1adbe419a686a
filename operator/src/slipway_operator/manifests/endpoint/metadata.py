"""The head of an object that belongs to an endpoint and goes with it."""

from __future__ import annotations

from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.owner import Owner


def endpoint_object(api_version: str, kind: str, name: str, endpoint: ModelEndpoint) -> Manifest:
    """Raises ValueError for an endpoint that was not read from a cluster: it has no uid."""
    metadata = endpoint.metadata
    if not metadata.uid:
        raise ValueError(f"endpoint {metadata.name} has no uid")
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": metadata.namespace or "default",
            "labels": names.endpoint_labels(metadata.name),
            "ownerReferences": [Owner.endpoint(metadata.name, metadata.uid).reference()],
        },
    }
