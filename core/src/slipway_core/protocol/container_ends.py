"""How often each container of a server's pod ended, and how at last, by what the kubelet says of it. Pure.

A restartCount is the number of the newest container that a node has, dead or alive: it goes up as the next one is made,
not as one ends. After the third end it is 2 while that container is `terminated`, 2 in the back-off that follows
(`waiting`, its end in `lastState`), and 3 once the next one runs (convertToAPIContainerStatuses in the kubelet's
kubelet_pods.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from slipway_core.protocol import exit_codes

Status = Mapping[str, Any]

_NOT_MADE_YET: Final = ("", "ContainerCreating", "PodInitializing", "RestartingAllContainers")
"""Waits for a container whose number restartCount is already. In any other the newest one is that of `lastState`, and
the next cannot be made yet."""
_COUNTED_BY_KUBELET: Final = "ContainerStatusUnknown"
"""The reason of an end that the kubelet has not seen, as of a node that was away: it counts that one at once."""


@dataclass(frozen=True)
class ContainerEnds:
    container: str
    fetches: bool
    """Whether it is an init container: it fetches the model, and is done when it ends with exit code 0."""
    times: int
    """Ends so far, but for the one with which a fetch is done."""
    last: Status
    """The last end, `terminated` of a container's state; empty where no node knows it any more."""
    is_dead: bool
    """Whether no other container was made or waited for since: the log of this one is not yet the previous one."""

    @property
    def done(self) -> bool:
        return self.fetches and self.last.get("exitCode") == exit_codes.DONE

    @property
    def out_of_memory(self) -> bool:
        return self.last.get("reason") == "OOMKilled"

    @property
    def how(self) -> str:
        """In a person's words, without what it said."""
        what, code = "the fetch of its model" if self.fetches else "its server", self.last.get("exitCode")
        if self.out_of_memory:
            return f"{what} used more memory than its limit and was killed (OOMKilled)"
        if code is None:
            return f"{what} ended"
        return f"{what} was ended by signal {code - 128}" if code > 128 else f"{what} ended with exit code {code}"


def of_pod(pod: Status) -> list[ContainerEnds]:
    """Returns the ends of those containers of a pod that have ended, in the order in which they start."""
    status = _at(pod, "status")
    both = [_of(own, fetches=True) for own in status.get("initContainerStatuses") or ()]
    both += [_of(own, fetches=False) for own in status.get("containerStatuses") or ()]
    return [ends for ends in both if ends.times or ends.last]


def _of(container: Status, *, fetches: bool) -> ContainerEnds:
    state = _at(container, "state")
    ended, waits_for = _at(state, "terminated"), _at(state, "waiting").get("reason") or ""
    last = ended or _at(container, "lastState", "terminated")
    newest = bool(ended) or (bool(last) and waits_for not in _NOT_MADE_YET)
    done = fetches and last.get("exitCode") == exit_codes.DONE
    uncounted = newest and not done and last.get("reason") != _COUNTED_BY_KUBELET
    times = int(container.get("restartCount") or 0) + (1 if uncounted else 0)
    return ContainerEnds(container.get("name", ""), fetches, times, last, is_dead=bool(ended))


def _at(status: Status, *path: str) -> Status:
    for name in path:
        status = status.get(name) or {}
    return status
