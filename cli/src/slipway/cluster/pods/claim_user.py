"""Who has a claim now: a volume that only one node may have is where a pod of that node mounts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway.cluster.kubectl import Kubectl

_AT_WORK = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True)
class ClaimUser:
    pod: str
    node: str
    tolerations: tuple[Mapping[str, Any], ...] = ()


def find_user(kubectl: Kubectl, claim: str, *, but: str | None = None) -> ClaimUser | None:
    """Returns a pod that mounts the claim, one that runs rather than one that starts.

    Args:
        but: a pod that does not count.

    Raises ClusterError.
    """
    users = [pod for pod in kubectl.list("pods", fields=_AT_WORK) if _mounts(pod, claim) and _name(pod) != but]
    users.sort(key=lambda pod: pod.get("status", {}).get("phase") != "Running")
    if not users:
        return None
    spec = users[0]["spec"]
    return ClaimUser(_name(users[0]), spec["nodeName"], tuple(spec.get("tolerations", ())))


def _name(pod: Mapping[str, Any]) -> str:
    return pod["metadata"]["name"]


def _mounts(pod: Mapping[str, Any], claim: str) -> bool:
    """Whether the pod is on a node, which then has the claim, or is about to."""
    spec = pod.get("spec", {})
    claims = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in spec.get("volumes", ())]
    return bool(spec.get("nodeName")) and claim in claims
