"""The volume of a namespace's workspaces, for runs that name no storage."""

from __future__ import annotations

from slipway_operator import names
from slipway_operator.kube.manifest import Manifest
from slipway_operator.settings import Settings


def workspace_claim(namespace: str, settings: Settings) -> Manifest:
    """Returns the claim. It has no owner: models that are served lie on it."""
    wanted = settings.workspace
    spec: Manifest = {
        "accessModes": list(wanted.access_modes),
        "resources": {"requests": {"storage": str(wanted.size)}},
    }
    if wanted.storage_class is not None:
        spec["storageClassName"] = wanted.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names.WORKSPACE_CLAIM,
            "namespace": namespace,
            "labels": {names.MANAGED_BY: names.MANAGED_BY_VALUE, names.ROLE: "workspace"},
        },
        "spec": spec,
    }
