"""What makes a pod `restricted` in the sense of the Pod Security Standards, and a little more (invariant H):
those of the operator, and the short-lived ones of the command line."""

from __future__ import annotations

from typing import Any, Final

USER: Final = 65532
"""UID and GID of every process in our images."""


def pod_security() -> dict[str, Any]:
    """Returns the securityContext of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        # A workspace of many files takes minutes to change the owner of, at every start of a pod.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """Returns the securityContext of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
    }


def no_cluster_access() -> dict[str, Any]:
    """Returns what keeps the API server out of a pod: no token, and no variables that name every Service."""
    return {"automountServiceAccountToken": False, "enableServiceLinks": False}
