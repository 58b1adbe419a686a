"""A version of an endpoint, out of its Deployment and pods: what `rollout.step` decides upon. Pure.

As on one machine, a server that ends is started again; the kubelet does it. A candidate whose server ends is Failed at
once where another try changes nothing, and after three tries otherwise: a fetch may fail for a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway_core.protocol import container_ends, exit_codes
from slipway_core.protocol.container_ends import ContainerEnds
from slipway_core.protocol.last_words import reasons
from slipway_core.resources.conditions import Blocker, parse_timestamp
from slipway_core.rollout.observed import VersionView
from slipway_operator.common import blockers
from slipway_operator.common.failure_class import has_ended
from slipway_operator.kube.manifest import Manifest, at, condition, items

_TRIES = 3
_UNREADY_AFTER = timedelta(seconds=10)
"""For how long a server that was ready may not be before it counts as Unready: a busy machine is no broken model."""
_LAST_WORDS = 300
"""Characters of a server's last output that a message repeats."""
_COUNTS = ("ImageUnavailable", "NodeLost")
"""Blockers in spite of which the time to start runs: an image's name is frozen with its version and never heals."""


@dataclass(frozen=True)
class VersionObjects:
    """What the cluster has of one version."""

    deployment: Manifest | None
    """None once it was deleted; its pods may still be answering their last requests."""
    pods: tuple[Manifest, ...] = ()

    @property
    def ready_pods(self) -> list[Manifest]:
        """Those that get requests, the oldest first."""
        ready = [pod for pod in self.current if condition(pod, "Ready")]
        return sorted(ready, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]))

    @property
    def current(self) -> list[Manifest]:
        """Those that are neither ended nor told to end."""
        return [pod for pod in self.pods if not has_ended(pod) and "deletionTimestamp" not in pod["metadata"]]

    @property
    def gone(self) -> bool:
        return self.deployment is None and all(has_ended(pod) for pod in self.pods)

    @property
    def replicas(self) -> int:
        """How many pods its Deployment asks for."""
        return int(at(self.deployment, "spec").get("replicas", 1))


def view(objects: VersionObjects, now: datetime, hindrances: Sequence[Blocker] = ()) -> VersionView | None:
    """Returns how a version is, but for its answer to a prompt; None when nothing of it is left.

    Args:
        objects: its Deployment and pods.
        now: the time.
        hindrances: what keeps its pods from starting; see `blockers_of`.
    """
    if objects.gone:
        return None
    deployment = objects.deployment
    if deployment is None or "deletionTimestamp" in deployment["metadata"]:
        return VersionView("Stopping")
    if objects.replicas == 0:
        return VersionView("Starting", "spec.replicas is 0: nothing answers until it is more")
    if _was_ready(deployment):
        return _established(objects, now, hindrances)
    if _all_available(objects):
        return VersionView("Ready", began=_began(objects))
    failure = next((why for pod in objects.current if (why := _hopeless(pod))), None)
    if failure is not None:
        return VersionView("Failed", failure)
    return _starting(objects, hindrances)


def blockers_of(objects: VersionObjects, now: datetime, *, node_lost_after: float) -> tuple[Blocker, ...]:
    """Returns what keeps the pods of a version from starting, as far as the pods and the Deployment themselves tell."""
    found = blockers.of_pods(objects.pods, now, node_lost_after=node_lost_after)
    refused = condition(objects.deployment, "ReplicaFailure")
    if found or refused is None:
        return found
    return blockers.of_events([{"reason": "FailedCreate", "message": refused.get("message", "")}])


def silent_pod(objects: VersionObjects, now: datetime, patience: timedelta) -> Manifest | None:
    """Returns a pod that has a node and does not start for so long, without a word of why: its Events have it."""
    for pod in objects.current:
        placed = _placed_at(pod)
        if placed is not None and _begun(pod) is None and now - placed >= patience:
            return pod
    return None


def _established(objects: VersionObjects, now: datetime, hindrances: Sequence[Blocker]) -> VersionView:
    """A version that was ready once: it is Ready for as long as one of its pods answers."""
    if objects.ready_pods or any(_only_just_unready(pod, now) for pod in objects.current):
        return VersionView("Ready", began=_began(objects))
    ended = next((why for pod in objects.current if (why := _last_end(pod))), None)
    waits = next((blocker.message for blocker in hindrances), None)
    # Of several pods one may find no place while another ends again and again: room for the one mends nothing.
    why = f"{ended.rstrip('.')}; {waits}" if ended and waits else ended or waits
    return VersionView("Unready", why or "none of its pods is ready", began=_began(objects))


def _starting(objects: VersionObjects, hindrances: Sequence[Blocker]) -> VersionView:
    placed = sum(1 for pod in objects.current if _placed_at(pod)) >= objects.replicas
    waits = not placed or any(blocker.type not in _COUNTS for blocker in hindrances)
    return VersionView("Starting", _message(objects, hindrances, placed), waits=waits, began=_began(objects))


def _began(objects: VersionObjects) -> datetime | None:
    """When the last of its pods had what it needs to start."""
    return max((moment for pod in objects.current if (moment := _begun(pod) or _placed_at(pod))), default=None)


def _message(objects: VersionObjects, hindrances: Sequence[Blocker], placed: bool) -> str | None:
    if hindrances:
        return hindrances[0].message
    if not placed:
        return "its pods wait for a place on a node"
    ends = [why for pod in objects.current if (why := _last_end(pod))]
    if ends:
        return f"it starts again: {ends[0]}"
    if objects.replicas > 1:
        return f"{len(objects.ready_pods)} of {objects.replicas} replicas are ready"
    if any(_is_fetching(pod) for pod in objects.current):
        return "the model is being fetched"
    return None


def _was_ready(deployment: Manifest) -> bool:
    """Whether all of its replicas were available at some time: the Deployment says so from then on."""
    progressing = condition(deployment, "Progressing")
    return progressing is not None and progressing.get("reason") == "NewReplicaSetAvailable"


def _all_available(objects: VersionObjects) -> bool:
    """Whether all replicas answer: with fewer a take-over would cost capacity."""
    status = at(objects.deployment, "status")
    generation = at(objects.deployment, "metadata").get("generation", 0)
    current = int(status.get("observedGeneration", 0)) >= int(generation)
    return current and int(status.get("availableReplicas", 0)) >= objects.replicas and bool(objects.ready_pods)


def _only_just_unready(pod: Manifest, now: datetime) -> bool:
    """Whether its server runs, was ready, and has missed its probes for a moment only."""
    if any("running" not in at(own, "state") for own in _servers(pod)):
        return False
    ready = next((c for c in items(pod, "status", "conditions") if c.get("type") == "Ready"), None)
    if ready is None or not ready.get("lastTransitionTime"):
        return False
    since = parse_timestamp(ready["lastTransitionTime"])
    started = max((_moment(at(own, "state", "running")) or since for own in _servers(pod)), default=since)
    # A server that was started since then has not been ready yet.
    # Of a node whose clock is far ahead nobody knows how long ago that was.
    return started < since and abs(now - since) < _UNREADY_AFTER


def unready_again_after(objects: VersionObjects, now: datetime) -> timedelta | None:
    """Returns when a version that has just missed its probes is to be looked at again."""
    waiting = not objects.ready_pods and any(_only_just_unready(pod, now) for pod in objects.current)
    return timedelta(seconds=1) if waiting else None


def _hopeless(pod: Manifest) -> str | None:
    """Returns why the server of a pod that was never ready will not be."""
    for ends in _failures(pod):
        final = ends.last["exitCode"] == exit_codes.BAD_INPUT or ends.out_of_memory
        if final or ends.times >= _TRIES:
            return _in_words(pod, ends)
    return None


def _last_end(pod: Manifest) -> str | None:
    return next((_in_words(pod, ends) for ends in _failures(pod)), None)


def _failures(pod: Manifest) -> list[ContainerEnds]:
    """Returns those of its containers whose last end was no success."""
    return [ends for ends in container_ends.of_pod(pod) if ends.last.get("exitCode", 0) != exit_codes.DONE]


def _in_words(pod: Manifest, ends: ContainerEnds) -> str:
    said = _last_line(str(ends.last.get("message") or ""))
    if ends.last["exitCode"] == exit_codes.BAD_INPUT and said:
        return said
    if ends.out_of_memory:
        return f"{ends.how}; raise resources.limits.memory"
    more = f"; `kubectl logs {pod['metadata']['name']} --previous` has more"
    return f"{ends.how}: {said}" if said else f"{ends.how}{more}"


def _last_line(message: str) -> str:
    said = reasons(message)
    return said[-1][:_LAST_WORDS] if said else ""


def _placed_at(pod: Manifest) -> datetime | None:
    found = condition(pod, "PodScheduled")
    moment = (found or {}).get("lastTransitionTime") or at(pod, "status").get("startTime")
    return parse_timestamp(moment) if moment else None


def _begun(pod: Manifest) -> datetime | None:
    """When the first of its containers began; what it waited for before that is no part of its time to start."""
    moments = [
        moment
        for container in _all_containers(pod)
        for state in ("state", "lastState")
        for kind in ("running", "terminated")
        if (moment := _moment(at(container, state, kind)))
    ]
    if any(int(container.get("restartCount", 0)) for container in _all_containers(pod)):
        # Of a server that was started again the first start is not told any more.
        placed = _placed_at(pod)
        return placed if placed is not None else min(moments, default=None)
    return min(moments, default=None)


def _moment(state: Manifest) -> datetime | None:
    started = state.get("startedAt")
    return parse_timestamp(started) if started else None


def _is_fetching(pod: Manifest) -> bool:
    return any("running" in at(container, "state") for container in items(pod, "status", "initContainerStatuses"))


def _servers(pod: Manifest) -> list[Manifest]:
    return items(pod, "status", "containerStatuses")


def _all_containers(pod: Manifest) -> Iterable[Manifest]:
    return [*items(pod, "status", "initContainerStatuses"), *_servers(pod)]
