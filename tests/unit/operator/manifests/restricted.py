"""The Pod Security Standard `restricted`, and what Slipway asks for beyond it, as a check of a pod's spec.

The standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from typing import Any

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def violations(pod: dict[str, Any]) -> list[str]:
    """Returns what of a pod's spec the standard refuses, or invariant H does."""
    found = [f"pod: {field}" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    whole = pod.get("securityContext", {})
    if whole.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("pod: seccompProfile")
    if whole.get("runAsNonRoot") is not True or not whole.get("runAsUser"):
        found.append("pod: may run as root")
    if pod.get("automountServiceAccountToken") is not False:
        found.append("pod: holds a token of the API server")
    for volume in pod.get("volumes", []):
        if kinds := set(volume) - {"name"} - _VOLUMES:
            found.append(f"volume {volume['name']}: {kinds}")
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        found += [f"{container['name']}: {what}" for what in _of_container(container)]
    return found


def _of_container(container: dict[str, Any]) -> list[str]:
    own = container.get("securityContext", {})
    wrong = {
        "privileged": own.get("privileged") not in (None, False),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
        "capabilities": own.get("capabilities") != {"drop": ["ALL"]},
        "runs as root": own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False,
        "writes to its root file system": own.get("readOnlyRootFilesystem") is not True,
        "has a port of the host": any("hostPort" in port for port in container.get("ports", [])),
    }
    return [what for what, is_so in wrong.items() if is_so]
