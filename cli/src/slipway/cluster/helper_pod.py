"""A short-lived pod of ours that has the workspace claim: Pod Security restricted, and gone afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.kubectl import ClusterError, Kubectl
from slipway_core import labels
from slipway_core.workspace import WORKSPACE_MOUNT

USER = 65532
"""UID and GID of every pod of Slipway, so that what one writes another one reads."""
CONTAINER = "helper"
START_SECONDS = 300.0
"""How long it may take until the pod runs: an image to pull, a node to come."""
_HOPELESS = ("ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError")
_PATIENT = ("ErrImagePull", "ImagePullBackOff")
"""Reasons that may pass; shown, and given up after a while."""
_PULL_SECONDS = 30.0

Role = Literal["upload", "read"]


@dataclass(frozen=True)
class HelperPod:
    """What the pod is for."""

    role: Role
    claim: str
    writes: bool
    lifetime: int
    """Seconds after which the cluster ends it, should nobody be there to delete it."""

    def manifest(self, settings: ClientSettings) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": f"slipway-{self.role}-",
                "labels": {labels.MANAGED_BY: labels.MANAGED_BY_VALUE, labels.ROLE: self.role},
            },
            "spec": {
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "restartPolicy": "Never",
                "activeDeadlineSeconds": self.lifetime,
                "terminationGracePeriodSeconds": 5,
                "imagePullSecrets": [{"name": name} for name in settings.pull_secrets],
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": USER,
                    "runAsGroup": USER,
                    "fsGroup": USER,
                    # A workspace of many files is not gone through file by file when the pod starts.
                    "fsGroupChangePolicy": "OnRootMismatch",
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": CONTAINER,
                        "image": settings.image,
                        "imagePullPolicy": settings.pull_policy,
                        # The shell is PID 1 and would not hear SIGTERM without a trap.
                        "command": ["sh", "-c", f"trap 'exit 0' TERM; sleep {self.lifetime} & wait"],
                        "resources": {
                            "requests": {"cpu": "50m", "memory": "64Mi"},
                            "limits": {"memory": "512Mi"},
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [
                            {"name": "workspace", "mountPath": WORKSPACE_MOUNT, "readOnly": not self.writes}
                        ],
                    }
                ],
                "volumes": [
                    {
                        "name": "workspace",
                        "persistentVolumeClaim": {"claimName": self.claim, "readOnly": not self.writes},
                    }
                ],
            },
        }


@contextmanager
def running(
    kubectl: Kubectl,
    pod: HelperPod,
    settings: ClientSettings,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Starts the pod and yields its name; deletes it in any case.

    Args:
        say: hears, once each, why the pod does not run yet.

    Raises ClusterError that names what keeps it from running.
    """
    name = kubectl.json("create", "-f", "-", input=pod.manifest(settings))["metadata"]["name"]
    try:
        _await(kubectl, name, say, sleep)
        yield name
    finally:
        # It ends by itself after its lifetime, and what went wrong before matters more.
        with suppress(ClusterError):
            kubectl.run("delete", "pod", name, "--wait=false", "--ignore-not-found")


def _await(kubectl: Kubectl, name: str, say: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    waited, seen = 0.0, ""
    while True:
        pod = kubectl.get("pod", name)
        phase = pod.get("status", {}).get("phase")
        if phase == "Running":
            return
        reason, why = blocker(pod)
        if phase in ("Failed", "Succeeded"):
            raise ClusterError(f"pod {name} ended before it was used: {why or phase}")
        if reason in _HOPELESS or (reason in _PATIENT and waited >= _PULL_SECONDS) or waited >= START_SECONDS:
            raise ClusterError(f"pod {name} does not start: {why or 'it gave no reason'}{_fix(reason)}")
        if why and why != seen:
            say(f"pod {name} waits: {why}")
            seen = why
        sleep(0.5)
        waited += 0.5


def blocker(pod: Mapping[str, Any]) -> tuple[str, str]:
    """Returns reason and message of what keeps a pod from running; nothing while it simply starts."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return waiting["reason"], f"{waiting['reason']}: {waiting.get('message', container.get('image', ''))}"
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason", ""), condition.get("message", "")
    return status.get("reason", ""), status.get("message", "")


def _fix(reason: str) -> str:
    if "Image" in reason:
        return "; name an image that the nodes can pull with --image"
    return ""
