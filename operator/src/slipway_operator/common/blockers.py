"""What keeps pods from starting, as conditions that name the object and the fix. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from slipway_core.resources.conditions import Blocker, parse_timestamp
from slipway_operator import names
from slipway_operator.kube.cluster import WARNINGS
from slipway_operator.kube.manifest import Manifest, at, items, labels

_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_TRIED_AGAIN = ("ErrImagePull", "RegistryUnavailable")
"""What the kubelet says between two times of ImagePullBackOff."""
_NOT_MOUNTED = "VolumeNotMounted"
_CLAIM_PENDING = "ClaimPending"
_PROVISIONING = timedelta(seconds=5)
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


def of_pods(pods: Iterable[Manifest], now: datetime, *, node_lost_after: float = 60.0) -> tuple[Blocker, ...]:
    """Returns what keeps these pods from running, each kind once.

    Args:
        pods: of one attempt, or of one version of an endpoint.
        now: the time, aware of its zone.
        node_lost_after: seconds beyond its grace period that a pod may stay Terminating.
    """
    found: dict[str, Blocker] = {}
    for pod in pods:
        for blocker in _of_pod(pod, now, node_lost_after):
            found.setdefault(blocker.type, blocker)
    return tuple(found.values())


def of_events(events: Iterable[Manifest]) -> tuple[Blocker, ...]:
    """Returns what the Events of a Job or a pod say keeps it from having pods or volumes: only they tell."""
    found: dict[str, Blocker] = {}
    for event in events:
        message = str(event.get("message", ""))
        blocker = None
        if event.get("reason") in WARNINGS and not _is_of_a_moment(event):
            blocker = _of_message(message, str(event.get("reason")))
        if blocker is not None:
            found.setdefault(blocker.type, blocker)
    if len(found) > 1:
        # Of a mount that fails the kubelet also says, now and then, that it timed out; the other one says on what.
        found.pop(_NOT_MOUNTED, None)
    return tuple(found.values())


def _is_of_a_moment(event: Manifest) -> bool:
    """Whether the API server has not told itself yet that a node may read what its new pod names: so it is with the
    first pod of a claim now and then, and the kubelet has it with the next try or the one after it."""
    return "no relationship found between node" in str(event.get("message", "")) and int(event.get("count") or 1) <= 3


def shared_workspace(claim: Manifest | None, nodes: int) -> tuple[Blocker, ...]:
    """Says when a run over several nodes has a workspace that only one of them can mount. It may still fit on one."""
    if claim is None or nodes == 1:
        return ()
    modes: list[str] = at(claim, "spec").get("accessModes") or []
    if "ReadWriteMany" in modes:
        return ()
    message = (
        f"compute.nodes is {nodes} and the claim {claim['metadata']['name']} has the access modes {', '.join(modes)}: "
        "pods on different nodes cannot share it. Use a claim with ReadWriteMany (spec.storage.claimName)"
    )
    return (Blocker("WorkspaceNotShared", "AccessMode", message),)


def _of_pod(pod: Manifest, now: datetime, node_lost_after: float) -> Iterable[Blocker]:
    metadata, status = pod["metadata"], at(pod, "status")
    name = metadata.get("name", "")
    if status.get("phase") in ("Succeeded", "Failed"):
        return
    if deleted := metadata.get("deletionTimestamp"):
        # Kubernetes sets it to the end of the grace period.
        if now - parse_timestamp(deleted) > timedelta(seconds=node_lost_after):
            node = at(pod, "spec").get("nodeName", "its node")
            message = (
                f"the pod {name} does not end on {node}, which seems lost. It goes on once the node is back, is "
                f"deleted (kubectl delete node {node}), or has the taint node.kubernetes.io/out-of-service"
            )
            yield Blocker("NodeLost", "PodStaysTerminating", message)
        return
    for condition in items(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            found = _unschedulable(name, str(condition.get("message", "")), pod)
            since = condition.get("lastTransitionTime")
            # Every new claim waits a moment for its volume: no news, and two writes.
            if found.type != _CLAIM_PENDING or since is None or now - parse_timestamp(since) >= _PROVISIONING:
                yield found
    for container in [*items(status, "initContainerStatuses"), *items(status, "containerStatuses")]:
        waiting = at(container, "state", "waiting")
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if reason in _IMAGE_REASONS:
            yield _image(str(container.get("image", "")), reason, message)
        elif reason in _CONFIG_REASONS:
            yield _of_message(message, reason) or Blocker("ContainerNotCreated", reason, f"pod {name}: {message}")


def _image(image: str, reason: str, message: str) -> Blocker:
    """The kubelet goes back and forth between two reasons, and counts up the ports that it asks a name server from:
    each change of a condition is a write, and a wait may take days."""
    reason = "ImagePullBackOff" if reason in _TRIED_AGAIN else reason
    cause = re.sub(r'^Back-off pulling image "[^"]*"(: \w+)?(: )?', "", message)
    cause = re.sub(r":\d+->", "->", cause)
    fix = "check its name, the nodes' access to the registry, and imagePullSecrets (values of the chart)"
    return Blocker("ImageUnavailable", reason, f"the image {image} cannot be pulled: {cause or reason}; {fix}")


def _unschedulable(name: str, message: str, pod: Manifest) -> Blocker:
    known = _of_message(message, "Unschedulable")
    if known is not None:
        return known
    message = re.sub(r"( no new claims to deallocate,)? preemption: .*", "", message, flags=re.DOTALL)
    missing = re.findall(r"Insufficient ([\w./-]+[\w])", message)
    extended = [resource for resource in missing if "/" in resource]
    if extended:
        resource = extended[0]
        wanted = _requested(pod, resource)
        text = (
            f"the pod {name} asks for {wanted} {resource} and no node has that many free: {_sentence(message)} Free or "
            f"add nodes with {resource}, or change {_asked_by(pod)}"
        )
        return Blocker("Unschedulable", "NoAccelerator", text)
    asks = ", ".join(f"{resource} {amount}" for resource, amount in _requests(pod).items()) if missing else ""
    which = f", which asks for {asks}" if asks else ""
    fix = _room(pod) if missing else _fit(pod)
    if "were unschedulable" in message:
        fix = f"A node is cordoned: kubectl uncordon brings it back. {fix}"
    return Blocker("Unschedulable", "NoNodeFits", f"no node takes the pod {name}{which}: {_sentence(message)} {fix}")


def _room(pod: Manifest) -> str:
    own, chart = ("resources", "serving") if _serves(pod) else ("compute.resources", "training")
    return (
        f"Free room on a node, add a larger one, or lower {own}.requests (left out: defaults.{chart}.resources of the "
        "chart)"
    )


def _fit(pod: Manifest) -> str:
    own, when, chart = ("", "", "serving") if _serves(pod) else ("compute.", "suspend the run for that; ", "training")
    return (
        f"Change {own}nodeSelector or {own}tolerations ({when}left out: defaults.{chart} of the chart), or add a node "
        "that fits them"
    )


def _requests(pod: Manifest) -> dict[str, str]:
    """What the containers of a pod ask for together; the amounts of several are not added up, but listed."""
    found: dict[str, list[str]] = {}
    for container in items(pod, "spec", "containers"):
        asked = {**at(container, "resources", "limits"), **at(container, "resources", "requests")}
        for resource, amount in asked.items():
            found.setdefault(resource, []).append(str(amount))
    return {resource: " + ".join(amounts) for resource, amounts in sorted(found.items())}


def _sentence(text: str) -> str:
    """The words of somebody else, as a sentence that another may follow."""
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _serves(pod: Manifest) -> bool:
    return labels(pod).get(names.ROLE) == "serve"


def _asked_by(pod: Manifest) -> str:
    """The fields that a pod has its accelerators from."""
    return "engine.tensorParallel" if _serves(pod) else "compute.accelerator and compute.processesPerNode"


def _requested(pod: Manifest, resource: str) -> str:
    for container in items(pod, "spec", "containers"):
        limits = at(container, "resources", "limits")
        if resource in limits:
            return str(limits[resource])
    return "some"


def _of_message(message: str, reason: str) -> Blocker | None:
    """Returns the blocker that a message of Kubernetes is about, by the object that it names."""
    if found := re.search(r'persistentvolumeclaim "([^"]+)" (?:not found|is being deleted)', message):
        text = f"the claim {found[1]} does not exist in this namespace; create it, and it goes on by itself"
        return Blocker("ClaimMissing", "NotFound", text)
    if "unbound immediate PersistentVolumeClaims" in message:
        text = f"a claim has no volume yet: {_sentence(message)} Check its storage class (kubectl describe pvc)"
        return Blocker(_CLAIM_PENDING, "NotBound", text)
    if found := re.search(r'secrets? "([^"]+)" not found', message):
        text = f"the Secret {found[1]} does not exist in this namespace; create it, and it goes on by itself"
        return Blocker("SecretMissing", "NotFound", text)
    if found := re.search(r"couldn't find key (\S+) in Secret (\S+)", message):
        text = f"the Secret {found[2].split('/')[-1]} has no key {found[1]}; add it, and it goes on by itself"
        return Blocker("SecretMissing", "KeyNotFound", text)
    if found := re.search(r'configmaps? "([^"]+)" not found', message):
        text = (
            f"the ConfigMap {found[1]} does not exist in this namespace; that of a plan comes back with the next look "
            "at the run, and that of a pod template of the chart is to be created in each namespace"
        )
        return Blocker("ConfigMapMissing", "NotFound", text)
    if found := re.search(r"exceeded quota: ([^,]+), requested: (.+?), used: (.+?), limited: (.+)", message):
        text = (
            f"the quota {found[1]} has no room: asked for {found[2]}, used {found[3]}, limit {found[4]}; raise it or "
            "free some, and it goes on by itself"
        )
        return Blocker("QuotaExceeded", "ResourceQuota", text)
    if found := re.search(
        r'priorityclass(?:es)?\.scheduling\.k8s\.io "?([\w.-]+)"? not found|no PriorityClass with name ([\w.-]+)',
        message,
    ):
        text = (
            f"there is no PriorityClass {found[1] or found[2]}; create it, or change priorityClassName: compute's of "
            "the run, the endpoint's, or that of the chart's defaults"
        )
        return Blocker("PriorityClassMissing", "NotFound", text)
    if found := re.search(r'serviceaccount "([^"]+)" not found', message):
        text = (
            f"the ServiceAccount {found[1]} of a pod template of the chart does not exist in this namespace; create "
            "it, and it goes on by itself"
        )
        return Blocker("ServiceAccountMissing", "NotFound", text)
    if found := re.search(r'RuntimeClass "?([\w.-]+)"? not found', message):
        text = f"there is no RuntimeClass {found[1]}, which a pod template of the chart names; create it, or mend that"
        return Blocker("RuntimeClassMissing", "NotFound", text)
    if found := re.search(r"failed quota: ([^:]+): must specify (.+)", message):
        wanted = ", ".join(dict.fromkeys(re.findall(r"([\w.\-/]+) for: ", found[2])))
        text = f"the quota {found[1]} wants {wanted} of every container, and the pod has none: {_SET_RESOURCES}"
        return Blocker("PodForbidden", "ResourceQuota", text)
    if found := re.search(_OF_A_LIMIT_RANGE, message):
        text = f"a LimitRange of the namespace does not admit the pod: {found[1]}; {_SET_RESOURCES}"
        return Blocker("PodForbidden", "LimitRange", text)
    if "violates PodSecurity" in message:
        return Blocker("PodForbidden", "PodSecurity", f"the namespace does not admit the pod: {message}")
    if reason == "FailedCreate":
        return Blocker("PodNotCreated", reason, message)
    if reason in ("FailedMount", "FailedAttachVolume"):
        return Blocker(_NOT_MOUNTED, reason, f"{_sentence(message)} {_mounting(message)}")
    return None


_OF_A_LIMIT_RANGE = r"is forbidden: \[?((?:maximum|minimum|[\w.\-/]+ max limit to request ratio) .+?)\]?$"
_SET_RESOURCES = (
    "set compute.resources of the run (resources of an endpoint), or defaults.training.resources and "
    "defaults.serving.resources of the chart"
)


def _mounting(message: str) -> str:
    """What to look at when a volume is not mounted. A claim's volume has the name of the volume that it is bound to, or
    of one of our own, neither of which is known here: what is not one of the others is a claim's."""
    listed = re.search(r"unmounted volumes=\[([^\]]*)\]", message)
    volumes = set(listed[1].replace(",", " ").split()) if listed else set(re.findall(r'for volume "([^"]+)"', message))
    fixes = [fix for volume, fix in _MOUNTED.items() if volume in volumes]
    if not volumes or volumes - _MOUNTED.keys():
        fixes.append("Check the claim and its storage class (kubectl describe pvc)")
    return ". ".join(fixes)


_MOUNTED = {
    "keys": "The volume keys is the Secret of access.keysSecret: create it in this namespace, and it goes on by itself",
    "plan": "The volume plan is the ConfigMap of the run's plan, which comes back with the next look at the run",
    "tmp": "The volume tmp is scratch space of the node: look at the node",
    "shm": "The volume shm is memory of the node: look at the node",
}
"""By the volume's name in our pods."""
