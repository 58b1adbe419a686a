"""What keeps a pod that mounts a claim from starting. Its status says most; of volumes its Events alone tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from slipway.cluster.kubectl import ClusterError, Kubectl
from slipway.cluster.pods.claim_user import find_user
from slipway_core.resources.conditions import parse_timestamp

START_SECONDS = 300.0
"""How long it may take until the pod runs: an image to pull, a node to come."""
_HOPELESS = ("ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError")
_PATIENT = ("ErrImagePull", "ImagePullBackOff")
"""Reasons that may pass; shown, and given up after a while."""
_PULL_SECONDS = 30.0
_EVENT_SECONDS = 10
"""Between two looks at the Events: the API server goes through all of the namespace for each."""
_STEP = 0.5


def await_running(
    kubectl: Kubectl, name: str, claim: str, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Waits until a pod runs.

    Args:
        claim: that it mounts.
        say: hears, once each, why it does not run yet.

    Raises ClusterError that names what keeps it from running.
    """
    waited, seen = 0.0, ""
    while True:
        pod = kubectl.get("pod", name)
        phase = pod.get("status", {}).get("phase")
        if phase == "Running":
            return
        late = waited >= START_SECONDS
        reason, why = blocker(pod)
        if not why and (late or (waited and waited % _EVENT_SECONDS == 0)):
            reason, why = _of_events(kubectl, pod, late=late)
        if phase in ("Failed", "Succeeded"):
            raise ClusterError(f"pod {name} ended before it was used: {why or phase}")
        if late or reason in _HOPELESS or (reason in _PATIENT and waited >= _PULL_SECONDS):
            fix = _fix(kubectl, pod, claim, reason, why)
            raise ClusterError(f"pod {name} does not start: {why or 'it gave no reason'}{fix}")
        if why and why != seen:
            say(f"pod {name} waits: {why}{_fix(kubectl, pod, claim, reason, why)}")
            seen = why
        sleep(_STEP)
        waited += _STEP


def blocker(pod: Mapping[str, Any]) -> tuple[str, str]:
    """Returns reason and message of what its status says keeps a pod from running; nothing while it simply starts."""
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting") or {}
        ended = container.get("state", {}).get("terminated") or {}
        if ended.get("exitCode") and ended.get("message"):
            return ended.get("reason", ""), ended["message"].strip()
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return waiting["reason"], f"{waiting['reason']}: {waiting.get('message', container.get('image', ''))}"
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason", ""), condition.get("message", "")
    return status.get("reason", ""), status.get("message", "")


def _of_events(kubectl: Kubectl, pod: Mapping[str, Any], *, late: bool) -> tuple[str, str]:
    try:
        events = kubectl.list("events", fields=f"involvedObject.uid={pod['metadata']['uid']},type=Warning")
    except ClusterError as error:
        # Who may not read them is told of that when there is nothing better to tell.
        return ("", f"its Events may say why: {error}") if late else ("", "")
    if pod.get("spec", {}).get("nodeName"):
        # That no node took it is past.
        events = [event for event in events if event.get("reason") != "FailedScheduling"]
    if not events:
        return "", ""
    # Of a volume that cannot be attached FailedMount says that it timed out, again and again, and nothing more.
    newest = max(events, key=lambda event: (event.get("reason") != "FailedMount", _told_at(event)))
    return newest.get("reason", ""), f"{newest.get('reason', '')}: {newest.get('message', '').strip()}"


def _told_at(event: Mapping[str, Any]) -> datetime:
    """Those of older reporters have lastTimestamp, those of newer ones eventTime, and a series when they come again."""
    told = (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return parse_timestamp(told or event["metadata"]["creationTimestamp"])


def _fix(kubectl: Kubectl, pod: Mapping[str, Any], claim: str, reason: str, why: str) -> str:
    """Returns what to do, after a semicolon; nothing where the reason says it all."""
    node = pod.get("spec", {}).get("nodeName", "")
    other = "or have runs keep their files in a claim with the access mode ReadWriteMany (spec.storage.claimName)"
    if "Image" in reason:
        return "; name an image that the nodes can pull with --image"
    if any(sign in why for sign in ("Multi-Attach", "exclusively attached", "ReadWriteOncePod")):
        return f"; {_in_use(kubectl, pod, claim, node)}: try again once it is free, {other}"
    if "volume node affinity" in why:
        return f"; the volume of the claim {claim} ties it to nodes that have no room for it: make room there, {other}"
    if reason in ("FailedAttachVolume", "FailedMount") or "persistentvolumeclaim" in why.lower():
        where = f" on node {node}" if node else ""
        return f"; the claim {claim} cannot be mounted{where}: `kubectl describe pvc {claim} -n {kubectl.namespace}`"
    return ""


def _in_use(kubectl: Kubectl, pod: Mapping[str, Any], claim: str, node: str) -> str:
    try:
        user = find_user(kubectl, claim, but=pod["metadata"]["name"])
    except ClusterError:
        user = None
    here = f", and node {node} cannot have it too" if node else ""
    if user is None:
        return f"the claim {claim} is still attached to another node{here}"
    return f"pod {user.pod} has the claim {claim} on node {user.node}{here}"
