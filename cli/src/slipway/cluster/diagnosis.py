"""Whether a cluster can take a run: reached, Slipway installed, this user allowed, the operator at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from slipway.cluster import client_settings
from slipway.cluster.kubectl import ClusterError, Forbidden, Kubectl
from slipway.cluster.resources import ENDPOINTS, RUNS
from slipway.finding import Finding, Level

if TYPE_CHECKING:
    from slipway.cluster.place import ClusterPlace

NEEDED = (
    ("create", RUNS, "submit runs"),
    ("patch", RUNS, "stop runs"),
    ("patch", ENDPOINTS, "stop endpoints"),
    ("create", "pods", "submit local files"),
    ("create", "pods/exec", "submit local files and plot"),
    ("list", "events", "be told why a pod does not start"),
    ("get", "pods/log", "read logs"),
    ("create", "pods/portforward", "chat"),
)
"""What the commands ask of the API server, and what for."""


def diagnose(reach: Callable[[], ClusterPlace]) -> list[Finding]:
    """Returns what there is to say; it ends at the first thing without which the rest cannot be looked at."""
    try:
        place = reach()
        runs, endpoints = place.runs(), place.endpoints()
    except ClusterError as error:
        return [Finding(Level.PROBLEM, "cluster", "it cannot be used", fix=str(error))]
    figure = f"{len(runs)} runs, {len(endpoints)} endpoints"
    unseen = [run for run in runs if run.status is None and place.idle(run)]
    return [
        Finding(Level.GOOD, "cluster", place.title, figure),
        *_rights(place.kubectl),
        *_client_settings(place.kubectl),
        *(
            Finding(Level.PROBLEM, "operator", "it does not look at new runs", f"run {run.name} has no status", idle)
            for run in unseen[:1]
            if (idle := place.idle(run))
        ),
    ]


def _rights(kubectl: Kubectl) -> Iterator[Finding]:
    missing = [(verb, kind, purpose) for verb, kind, purpose in NEEDED if not _may(kubectl, verb, kind)]
    for verb, kind, purpose in missing:
        yield Finding(
            Level.PROBLEM, "rights", f"this user cannot {purpose}", f"no right to {verb} {kind} in {kubectl.title}",
            "ask whoever runs the cluster for it",
        )  # fmt: skip
    if not missing:
        yield Finding(Level.GOOD, "rights", "every command may do what it does")


def _may(kubectl: Kubectl, verb: str, kind: str) -> bool:
    resource, _, subresource = kind.partition("/")
    try:
        kubectl.run("auth", "can-i", verb, resource, *(["--subresource", subresource] if subresource else []))
    except ClusterError:
        return False
    return True


def _client_settings(kubectl: Kubectl) -> Iterator[Finding]:
    try:
        settings = client_settings.read(kubectl)
    except Forbidden as error:
        yield Finding(Level.NOTE, "train image", "it is not known to this user", fix=str(error))
    except ClusterError as error:
        yield Finding(Level.PROBLEM, "train image", "submit does not know which image takes files", fix=str(error))
    else:
        yield Finding(Level.GOOD, "train image", settings.image)
