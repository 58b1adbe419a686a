"""The kinds of objects that the operator reads or writes, and their paths in the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from slipway_core.resources.api import API_VERSION


@dataclass(frozen=True)
class Kind:
    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """Empty for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Returns the path of one object, or of a list: of one namespace, or of all where none is given."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        within = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        parts = [root + within, self.plural, *(quote(part, safe="") for part in (name, subresource) if part)]
        return "/".join(parts)


TRAINING_RUN: Final = Kind(API_VERSION, "TrainingRun", "trainingruns")
MODEL_ENDPOINT: Final = Kind(API_VERSION, "ModelEndpoint", "modelendpoints")
JOB: Final = Kind("batch/v1", "Job", "jobs")
POD: Final = Kind("v1", "Pod", "pods")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
SERVICE: Final = Kind("v1", "Service", "services")
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
CLAIM: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SECRET: Final = Kind("v1", "Secret", "secrets")
EVENT: Final = Kind("v1", "Event", "events")
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
PDB: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
HPA: Final = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
WORKLOAD: Final = Kind("kueue.x-k8s.io/v1beta2", "Workload", "workloads")
NODE: Final = Kind("v1", "Node", "nodes", namespaced=False)
NAMESPACE: Final = Kind("v1", "Namespace", "namespaces", namespaced=False)

OWN: Final = (TRAINING_RUN, MODEL_ENDPOINT)
CHILDREN: Final = (JOB, POD, CONFIG_MAP, SERVICE, DEPLOYMENT, CLAIM)
"""What is watched of that which the operator makes: by its label, on the server's side."""

METADATA_ALONE: Final = (CONFIG_MAP,)
"""What is listed and watched without its content, which may be 1 MB of anybody's: who needs it reads that object."""

ALL: Final = (*OWN, *CHILDREN, SECRET, EVENT, LEASE, PDB, NETWORK_POLICY, HPA, WORKLOAD, NODE, NAMESPACE)


def accept(kind: Kind, *, listed: bool) -> str:
    """Returns the header Accept of a list or a watch of a kind."""
    if kind not in METADATA_ALONE:
        return "application/json"
    shape = "PartialObjectMetadataList" if listed else "PartialObjectMetadata"
    return f"application/json;as={shape};g=meta.k8s.io;v=v1"


def named(plural: str) -> Kind | None:
    """Returns the kind that is listed and watched under a plural; None for none of ours."""
    return next((kind for kind in (*OWN, *CHILDREN) if kind.plural == plural), None)


def of(manifest: dict[str, object]) -> Kind:
    """Returns the kind of a manifest. Raises ValueError for one that the operator has nothing to do with."""
    found = next((kind for kind in ALL if kind.kind == manifest.get("kind")), None)
    if found is None:
        raise ValueError(f"kind {manifest.get('kind')!r} is none of those that the operator reads or writes")
    return found
