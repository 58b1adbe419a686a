"""A namespace as a cluster with storage has it: what claims a workspace gets a volume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.api_client import VOLUME, ApiClient, Manifest

from slipway_core.protocol.workspace import WORKSPACE_CLAIM
from slipway_operator.kube.kinds import NAMESPACE


@contextmanager
def fresh_namespace(api: ApiClient, name: str) -> Iterator[str]:
    """Makes the namespace and a volume that waits for its workspace claim; both go in the end."""
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    api.create(_volume(name))
    try:
        yield name
    finally:
        api.delete(NAMESPACE, None, name)
        api.delete(VOLUME, None, _volume(name)["metadata"]["name"])


@contextmanager
def bound_claim(api: ApiClient, namespace: str, name: str) -> Iterator[None]:
    """Makes a claim with a volume."""
    volume = _volume(namespace, name)
    api.create(volume)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    api.create(claim, namespace)
    try:
        yield
    finally:
        api.delete(VOLUME, None, volume["metadata"]["name"])


def _volume(namespace: str, claim: str = WORKSPACE_CLAIM) -> Manifest:
    """No provisioner runs here, so the volume is there before its claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{claim}"},
        "spec": {
            "capacity": {"storage": "1Ti"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": claim},
            "hostPath": {"path": "/workspace"},
        },
    }
