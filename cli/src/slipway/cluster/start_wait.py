"""How an endpoint of a cluster looks to whoever waits for a model that passed: its status, and of the pods of that
model's version how often their servers ended since they answered last, and why.

No status counts that: each restart of each pod would be a write. Who may read the endpoint and not its pods is told
what the status says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from slipway.cluster.kubectl import ClusterError, Forbidden, Kubectl, NotFound
from slipway.cluster.pods.pod_start import blocker
from slipway.cluster.resources import ENDPOINTS, endpoint_of
from slipway.last_words import of_lines
from slipway.start_wait import ServerEnd, Sight, StartWait, on_its_way
from slipway_core.protocol import container_ends
from slipway_core.protocol.container_ends import ContainerEnds
from slipway_core.resources import labels
from slipway_core.resources.api import seconds
from slipway_core.resources.conditions import parse_timestamp
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import EndpointStatus
from slipway_core.resources.training_run import Serving

Pod = Mapping[str, Any]

_BEFORE = datetime.min.replace(tzinfo=UTC)
"""Of what had ended when it was looked at first: what it ended of may be mended by now."""
_LOG_LINES = 400
_REMEMBERED = 8
_SHOWN = 3
"""Pods that a sentence names."""
_AT_ONCE = timedelta(seconds=5)


def start_wait(
    kubectl: Kubectl, serving: Serving, clock: Callable[[], datetime], within: timedelta | None = None
) -> StartWait:
    return StartWait(serving.endpoint, Look(kubectl, serving, clock), clock, within)


@dataclass
class Look:
    kubectl: Kubectl
    serving: Serving
    clock: Callable[[], datetime]
    _ends: dict[int, list[ServerEnd]] = field(default_factory=dict[int, list[ServerEnd]])
    """Of each version whose pods were looked at."""
    _answered: dict[str, int] = field(default_factory=dict[str, int])
    """How often the server of a pod had ended when it answered last, by the pod's uid."""
    _seen: dict[str, int] = field(default_factory=dict[str, int])
    """The most ends that were seen of it: a node that was away may have forgotten some."""

    def __call__(self, model: str | None) -> Sight | None:
        """Returns how the endpoint is, for the model of this digest; None where it cannot be seen for a moment."""
        try:
            endpoint = endpoint_of(self.kubectl.get(ENDPOINTS, self.serving.endpoint))
        except NotFound:
            return Sight(EndpointStatus(), _timeout(self.serving.template.rollout.start_timeout))
        except Forbidden as error:
            most = _timeout(self.serving.template.rollout.start_timeout)
            return Sight(EndpointStatus(), most, unreadable=str(error))
        except ClusterError:
            return None
        status = endpoint.status or EndpointStatus()
        sight = Sight(status, _timeout(endpoint.spec.rollout.start_timeout))
        awaited = on_its_way(status, model)
        if awaited is None:
            return sight
        version = awaited.version
        try:
            pods = pods_of(self.kubectl, endpoint, version)
        except ClusterError:
            return Sight(status, sight.start_timeout, tuple(self._ends.get(version, ())))
        self._count(version, pods)
        return Sight(status, sight.start_timeout, tuple(self._ends[version]), partial(describe, self.kubectl, pods))

    def _count(self, version: int, pods: Sequence[Pod]) -> None:
        ends = {_uid(pod): max(_times(pod), self._seen.get(_uid(pod), 0)) for pod in pods}
        for pod in pods:
            uid = _uid(pod)
            if _is_ready(pod):
                self._answered[uid] = ends[uid]
            elif uid not in self._answered:
                # Of a server that has answered some time nobody knows which of its ends came after that, but the last.
                self._answered[uid] = 0 if _was_never_ready(pod) else max(0, ends[uid] - 1)
        in_a_row = min((ended - self._answered[uid] for uid, ended in ends.items()), default=0)
        new: list[ServerEnd] = []
        for pod in pods:
            if ends[_uid(pod)] > self._seen.get(_uid(pod), 0) and not _is_ready(pod):
                at = self.clock() if version in self._ends else _BEFORE
                why = f"pod {pod['metadata']['name']}: {_end(self.kubectl, pod)}"
                # A version answers while one of its pods does: it cannot start where the servers of all end.
                new.append(ServerEnd(at, why, in_a_row))
        self._seen.update(ends)
        self._ends[version] = [*self._ends.get(version, ()), *new][-_REMEMBERED:]


def pods_of(kubectl: Kubectl, endpoint: ModelEndpoint, version: int) -> list[Pod]:
    """Returns the pods of a version that are there to stay. Raises ClusterError where they cannot be read."""
    chosen = {
        labels.ENDPOINT: labels.label(endpoint.metadata.name), labels.ROLE: "serve", labels.VERSION: str(version),
    }  # fmt: skip
    gone = ("Succeeded", "Failed")
    return [
        pod
        for pod in kubectl.list("pods", labels=chosen)
        if "deletionTimestamp" not in pod["metadata"] and pod.get("status", {}).get("phase") not in gone
    ]


def describe(kubectl: Kubectl, pods: Sequence[Pod], told: str) -> str | None:
    """Returns how the pods are that do not answer, in a few words each, without what is told already."""
    # Of a pod that finds no place the operator tells all that there is.
    silent = [pod for pod in pods if not _is_ready(pod) and (_times(pod) or pod["metadata"]["name"] not in told)]
    shown = [f"pod {pod['metadata']['name']}: {_state(kubectl, pod, told)}" for pod in silent[:_SHOWN]]
    more = len(silent) - len(shown)
    return "; ".join([*shown, *([f"and {more} more"] if more else [])]) or None


def _state(kubectl: Kubectl, pod: Pod, told: str) -> str:
    if _last(pod) is not None:
        times = _times(pod)
        how_often = f"{times} times, at last: " if times > 1 else ""
        waits = next((reason for container in _containers(pod) if (reason := _waiting(container))), "")
        return f"{f'{waits}, ' if waits else ''}{how_often}{_end(kubectl, pod, told)}"
    reason, message = blocker(pod)
    message = re.sub(r"( no new claims to deallocate,)? preemption: .*", "", message, flags=re.DOTALL)
    if message:
        return message if reason in message else f"{reason}: {message}"
    return "its server runs and is not ready yet" if _runs(pod) else "its server has not started yet"


def _end(kubectl: Kubectl, pod: Pod, told: str = "") -> str:
    """Returns how the server of a pod ended last, with its last words where those are not told already."""
    ends = _last(pod)
    if ends is None:
        return "it ended"
    if ends.out_of_memory:
        return ends.how if ends.how in told else f"{ends.how}; raise resources.limits.memory"
    words = _said(kubectl, pod, ends)
    return f"{ends.how}: {words}" if words and words not in told else ends.how


def _said(kubectl: Kubectl, pod: Pod, ends: ContainerEnds) -> str | None:
    """Returns the last words of a container: of its log, or of the end of that which its pod keeps."""
    previous = [] if ends.is_dead else ["--previous"]
    tail = f"--tail={_LOG_LINES}"
    try:
        log = kubectl.run("logs", pod["metadata"]["name"], "--container", ends.container, tail, *previous)
        words = of_lines(log.decode(errors="replace").splitlines())
    except ClusterError:
        words = None
    return words or of_lines((ends.last.get("message") or "").splitlines())


def _uid(pod: Pod) -> str:
    return pod["metadata"]["uid"]


def _times(pod: Pod) -> int:
    return sum(ends.times for ends in container_ends.of_pod(pod))


def _last(pod: Pod) -> ContainerEnds | None:
    return next((ends for ends in container_ends.of_pod(pod) if ends.times and not ends.done), None)


def _waiting(container: Mapping[str, Any]) -> str:
    return (container.get("state", {}).get("waiting") or {}).get("reason", "")


def _containers(pod: Pod) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses", ())
    yield from status.get("containerStatuses", ())


def _runs(pod: Pod) -> bool:
    return any("running" in one.get("state", {}) for one in pod.get("status", {}).get("containerStatuses", ()))


def _ready(pod: Pod) -> Mapping[str, Any]:
    return next((one for one in pod.get("status", {}).get("conditions", ()) if one["type"] == "Ready"), {})


def _is_ready(pod: Pod) -> bool:
    return _ready(pod).get("status") == "True"


def _was_never_ready(pod: Pod) -> bool:
    """Whether it is unready since it came to its node."""
    since, came = _ready(pod).get("lastTransitionTime"), pod.get("status", {}).get("startTime")
    return not since or not came or parse_timestamp(since) - parse_timestamp(came) <= _AT_ONCE


def _timeout(duration: str) -> timedelta:
    return timedelta(seconds=seconds(duration))
