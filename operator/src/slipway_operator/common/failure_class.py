"""How an attempt ended, read from its pods: the class of the exit, the gravest of all pods, and why. Pure.

An exit that somebody else caused is an interruption, whatever its code: a pod that was evicted, preempted or deleted
gets SIGTERM and then SIGKILL, and 137 says nothing about the model then.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipway_core.protocol import exit_codes
from slipway_core.protocol.exit_codes import ExitClass
from slipway_operator.kube.manifest import Manifest, at, condition, items, notes
from slipway_operator.manifests.run.step_container import CONTAINER
from slipway_operator.manifests.run.sub_paths import CONTAINER as BEFORE

_TERMINATED_BY_SIGNAL = (128 + 9, 128 + 15)
_REFUSED_BY_NODE = ("OutOf", "UnexpectedAdmissionError", "NodeAffinity", "NodeShutdown", "Terminated", "NodeLost")
"""How `status.reason` begins of a pod that its node did not take, or took down with itself."""


@dataclass(frozen=True)
class PodEnd:
    """How one pod of an attempt ended."""

    index: int
    """Completion index, 0 for rank 0's pod."""
    exit_class: ExitClass
    message: str
    """Why, in a person's words; empty for DONE."""
    termination_message: str
    """What the process left for us."""
    finished_at: str | None = None


def has_ended(pod: Manifest) -> bool:
    """Whether no process of the pod runs any more."""
    return at(pod, "status").get("phase") in ("Succeeded", "Failed")


def end_of(pod: Manifest) -> PodEnd:
    """Returns how a pod ended that `has_ended`."""
    status = at(pod, "status")
    state = _terminated(status)
    if state is None and (first := _failed_before(status)) is not None:
        return _end_before(pod, status, first)
    exit_class, message = _class(pod, status, state)
    return PodEnd(
        index=index_of(pod),
        exit_class=exit_class,
        message=message,
        termination_message=str(state.get("message", "")) if state else "",
        finished_at=state.get("finishedAt") if state else None,
    )


def index_of(pod: Manifest) -> int:
    """Returns the completion index of an Indexed Job's pod."""
    try:
        return int(notes(pod).get("batch.kubernetes.io/job-completion-index", 0))
    except ValueError:
        return 0


def _class(pod: Manifest, status: Manifest, state: Manifest | None) -> tuple[ExitClass, str]:
    name = pod["metadata"].get("name", "")
    disrupted = _disruption(pod, status)
    if state is None:
        why = disrupted or f"the pod {name} ended before its container ran: {status.get('reason') or 'no reason given'}"
        refused = any(str(status.get("reason", "")).startswith(prefix) for prefix in _REFUSED_BY_NODE)
        return (ExitClass.INTERRUPTED if disrupted or refused else ExitClass.FAILED), why
    code = int(state.get("exitCode", 1))
    if code == exit_codes.DONE:
        return ExitClass.DONE, ""
    if state.get("reason") == "OOMKilled":
        return ExitClass.FAILED, f"the pod {name} was killed because it used more memory than its limit (OOMKilled)"
    found = exit_codes.classify(code)
    if found is ExitClass.FAILED and disrupted and code in _TERMINATED_BY_SIGNAL:
        return ExitClass.INTERRUPTED, disrupted
    if found is ExitClass.FAILED and str(state.get("reason")) in ("StartError", "ContainerCannotRun"):
        return found, f"the container of {name} could not start: {state.get('message', 'no reason given')}"
    if found is ExitClass.INTERRUPTED:
        return found, disrupted or f"the pod {name} was told to stop"
    hint = ", which the kernel also sends when a node's memory runs out" if code == _TERMINATED_BY_SIGNAL[0] else ""
    killed = f"the pod {name} was killed by signal {code - 128}{hint}"
    return (
        found,
        killed if code > 128 else f"the pod {name} ended with exit code {code}; `kubectl logs {name}` has more",
    )


def _end_before(pod: Manifest, status: Manifest, state: Manifest) -> PodEnd:
    """The container that looks before the process starts has its reason in plain words, and no result."""
    exit_class, message = _class(pod, status, state)
    said = str(state.get("message") or "").strip().rpartition("\n")[2]
    own = exit_class in (ExitClass.BAD_INPUT, ExitClass.FAILED) and int(state.get("exitCode", 1)) < 128
    return PodEnd(index_of(pod), exit_class, said if said and own else message, "", state.get("finishedAt"))


def _failed_before(status: Manifest) -> Manifest | None:
    """Returns how the init container of ours ended, where it kept the process from starting."""
    own = [container for container in items(status, "initContainerStatuses") if container.get("name") == BEFORE]
    ends = [at(container, "state", "terminated") for container in own]
    return next((end for end in ends if end and end.get("exitCode") != exit_codes.DONE), None)


def _disruption(pod: Manifest, status: Manifest) -> str | None:
    """Returns who ended the pod, when it did not end by itself."""
    name = pod["metadata"].get("name", "")
    if found := condition(pod, "DisruptionTarget"):
        return f"the pod {name} was disrupted: {found.get('message') or found.get('reason')}"
    if status.get("reason") in ("Evicted", "Preempting", "NodeShutdown", "Terminated", "NodeLost"):
        return f"the pod {name} was taken down: {status.get('message') or status.get('reason')}"
    if pod["metadata"].get("deletionTimestamp"):
        return f"the pod {name} was deleted"
    return None


def _terminated(status: Manifest) -> Manifest | None:
    containers = items(status, "containerStatuses")
    # What a cluster injects beside it ends as it likes.
    own = [container for container in containers if container.get("name") == CONTAINER] or containers
    for container in own:
        for state in ("state", "lastState"):
            if found := at(container, state, "terminated"):
                return found
    return None
