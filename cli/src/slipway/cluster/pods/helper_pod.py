"""A short-lived pod of ours that has the workspace claim: Pod Security restricted, and gone afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.kubectl import ClusterError, Kubectl
from slipway.cluster.pods import pod_start
from slipway.cluster.pods.claim_user import ClaimUser, find_user
from slipway_core.protocol.workspace import WORKSPACE_MOUNT
from slipway_core.resources import labels, pod_security

CONTAINER = "helper"

Role = Literal["upload", "read"]

_WAIT = """\
trap 'exit 0' TERM
idle=0
while [ "$idle" -lt "$3" ]; do
  sleep "$2" & wait $!
  idle=$((idle + 1))
  set -- "$1" "$2" "$3" "$1"/[0-9]*
  [ $# -le 4 ] || idle=0
done
"""
"""Waits until nothing was executed in the pod for some looks in a row: the claim comes free of a command line that was
killed, or whose connection was lost, and an upload may take its time. The shell is PID 1, and the only process while
nothing is executed; without a trap it would not hear SIGTERM."""


def wait_command(processes: str = "/proc", seconds: float = 60, looks: int = 5) -> list[str]:
    """Returns what the pod runs.

    Args:
        processes: the folder that has one for every process of the pod.
        seconds: between two looks.
        looks: after how many without a process it ends.
    """
    return ["sh", "-c", _WAIT, "sh", processes, f"{seconds:g}", str(looks)]


@dataclass(frozen=True)
class HelperPod:
    """What the pod is for."""

    role: Role
    claim: str
    writes: str | None
    """The folder of the claim that it makes and may write. None: it reads the claim, all of it, since the kubelet would
    make the folder of a run that has none yet, as root, and the run might not write there."""
    lifetime: int
    """Seconds after which the cluster ends it, whatever is executed in it."""

    def manifest(self, settings: ClientSettings, user: ClaimUser | None = None) -> dict[str, Any]:
        """Returns the pod.

        Args:
            user: a pod that has the claim, next to which this one is put where it fits.
        """
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": f"slipway-{self.role}-",
                "labels": {labels.MANAGED_BY: labels.CLIENT_VALUE, labels.ROLE: self.role},
            },
            "spec": {
                **pod_security.no_cluster_access(),
                "restartPolicy": "Never",
                "activeDeadlineSeconds": self.lifetime,
                "terminationGracePeriodSeconds": 5,
                **(_beside(user) if user else {}),
                "imagePullSecrets": [{"name": name} for name in settings.pull_secrets],
                "securityContext": pod_security.pod_security(),
                **({"initContainers": [self._makes_folder(settings)]} if self.writes else {}),
                "containers": [_container(CONTAINER, wait_command(), self._mount(), settings)],
                "volumes": [
                    {
                        "name": "workspace",
                        "persistentVolumeClaim": {"claimName": self.claim, "readOnly": self.writes is None},
                    }
                ],
            },
        }

    def _mount(self) -> dict[str, Any]:
        if self.writes is None:
            return {"mountPath": WORKSPACE_MOUNT, "readOnly": True}
        return {"mountPath": f"{WORKSPACE_MOUNT}/{self.writes}", "subPath": self.writes}

    def _makes_folder(self, settings: ClientSettings) -> dict[str, Any]:
        """Returns the container that makes the folder as the user that writes it; the kubelet would make it root's."""
        command = ["mkdir", "-p", "--", f"{WORKSPACE_MOUNT}/{self.writes}"]
        return _container("folder", command, {"mountPath": WORKSPACE_MOUNT}, settings)


def _container(name: str, command: list[str], mount: dict[str, Any], settings: ClientSettings) -> dict[str, Any]:
    return {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": command,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": pod_security.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "workspace", **mount}],
    }


def _beside(user: ClaimUser) -> dict[str, Any]:
    """Puts a pod on the node of another where it fits: many a volume is on one node at a time. Since others are not, it
    is only preferred. The taints of that node let it in as they let the other in."""
    there = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [user.node]}]}
    preferred = [{"weight": 100, "preference": there}]
    return {
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}},
        "tolerations": [dict(toleration) for toleration in user.tolerations],
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
    user = None
    with suppress(ClusterError):
        user = find_user(kubectl, pod.claim)  # Where it would best be is worth no failure.
    name = kubectl.json("create", "-f", "-", input=pod.manifest(settings, user))["metadata"]["name"]
    try:
        pod_start.await_running(kubectl, name, pod.claim, say, sleep)
        yield name
    finally:
        # It ends by itself in the end, and what went wrong before matters more.
        with suppress(ClusterError):
            kubectl.run("delete", "pod", name, "--wait=false", "--ignore-not-found")
